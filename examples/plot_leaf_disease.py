"""
Leaf disease: from the laboratory to the field
==============================================

A classifier that was trained on photos of leaves on a table works well on the table. In the field, the background is
soil and grass, which the classifier has never seen. This example measures the loss of accuracy and tries two remedies:
photos of the same plants on other backgrounds, and photos of more plants on the table. It also shows why folds must
keep the photos of a plant together::

    python examples/plot_leaf_disease.py [FOLDER [FIELD]]

FOLDER has one subfolder per class, which can contain one subfolder per plant. FIELD has photos of the same classes
from elsewhere. You can also set FOLDER in the environment variable ``SKTL_DATA``.
`PlantVillage <https://github.com/spMohanty/PlantVillage-Dataset>`_ has photos of leaves on a table (D. Hughes and M.
Salathé, arXiv:1511.08060, 2015; CC BY-SA 3.0 according to that page, whereas copies elsewhere state other licenses).
`PlantDoc <https://github.com/pratikkayal/PlantDoc-Dataset>`_ has photos of leaves in fields (D. Singh et al.,
CoDS-COMAD 2020; CC BY 4.0 according to its page, for photos that its authors found on the internet). Without a folder,
the example draws leaves.
"""

import os
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_score

from sktl import PredictionsDisplay, PretrainedImageClassifier
from sktl.datasets import load_image_folder, make_leaves

# %%
# Which photos show the same plant? For synthetic leaves, the plant is known. In a folder, photos in the same subfolder
# of a class show the same plant.


def load(folder):
    """Return images, labels and plants of a folder."""
    photos = load_image_folder(folder)
    parents = [Path(path).parent for path in photos.data]
    inside = [parent.name != label for parent, label in zip(parents, photos.target, strict=True)]
    plants = [str(p) if deep else path for p, deep, path in zip(parents, inside, photos.data, strict=True)]
    return list(photos.data), photos.target, np.array(plants)


def draw(n_plants, seed, *backgrounds):
    """Return images, labels and plants of synthetic leaves."""
    leaves = make_leaves(n_plants, photos_per_plant=4, backgrounds=backgrounds, random_state=seed)
    return list(leaves.data), leaves.target, leaves.groups


folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
field_folder = next(iter(sys.argv[2:]), None)
if folder:
    images, labels, plants = load(folder)
    field = load(field_folder)[:2] if field_folder else None
    varied = None
else:
    print("No folder is named: these leaves are synthetic, and accuracies on them say nothing about real ones.")
    images, labels, plants = draw(60, 0, "table")
    field = draw(60, 1, "soil", "grass")[:2]
    varied = draw(60, 0, "table", "soil", "grass")[:2]
print(f"{len(labels)} photos of {len(np.unique(plants))} plants, {len(np.unique(labels))} classes")

# %%
# Compare folds of photos with folds of plants. If there are several photos of each plant, only folds of plants estimate
# the accuracy for new plants. If each plant has one photo, both are the same.

clf = PretrainedImageClassifier(image_size=None if folder else 96, random_state=0)
by_photo = StratifiedKFold(5, shuffle=True, random_state=0)
by_plant = StratifiedGroupKFold(5, shuffle=True, random_state=0)
print(f"accuracy in folds of photos: {cross_val_score(clf, images, labels, cv=by_photo).mean():.1%}")
print(f"accuracy in folds of plants: {cross_val_score(clf, images, labels, cv=by_plant, groups=plants).mean():.1%}")

# %%
# Test in the field a classifier that was trained on the table. Photos of the same plants on the expected backgrounds
# help more than three times as many plants on the table.

table = clone(clf).fit(images, labels)
accuracy = {"trained on the table": [table.score(*field)]} if field else {}
if varied:
    accuracy["trained on all backgrounds"] = [clone(clf).fit(*varied).score(*field)]
    more = draw(180, 0, "table")[:2]
    accuracy["trained on three times as many on the table"] = [clone(clf).fit(*more).score(*field)]
for name, (score,) in accuracy.items():
    print(f"{name}: {score:.1%} right in the field")
if not field:
    print("No second folder is named: nothing is known about photos from elsewhere.")

# %%
# If the highest probability is low, you can answer "unsure" instead of a class. But do not rely on it: for images
# unlike its training images, a classifier can be confident and wrong. Show wrong predictions in the field, the most
# confident first.

shown, truth = field or (images, labels)
probabilities = table.predict_proba(shown)
said = table.classes_[probabilities.argmax(axis=1)]
wrong = np.flatnonzero(said != truth)
order = wrong[probabilities[wrong].max(axis=1).argsort()[::-1]]
if len(wrong):
    print(f"of {len(wrong)} errors, {(probabilities[wrong].max(axis=1) > 0.9).sum()} with a probability above 0.9")
rows = [*order[:6], *np.flatnonzero(said == truth)[:3]]
figure, axes = plt.subplots(3, 3, figsize=(5.5, 6.6), layout="constrained")
PredictionsDisplay.from_predictions(
    [shown[i] for i in rows], truth[rows], probabilities[rows], classes=table.classes_, n_images=9, ax=axes
)
figure.suptitle("What a classifier from the table says of other photos")
figure.savefig("leaf_disease.png", dpi=120)
print("leaves drawn in leaf_disease.png")
