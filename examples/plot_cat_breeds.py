"""
Cat breeds: which look-alikes are confused?
===========================================

Overall accuracy does not show where a classifier makes mistakes. Nearly all errors are confusions of breeds that look
alike. This example finds such pairs by cross-validation, and checks how often the second guess is right when the first
is wrong. It then shows the photos with the most confident errors, because these are often due to wrong labels::

    python examples/plot_cat_breeds.py [FOLDER]

FOLDER has one subfolder per breed. You can also set it in the environment variable ``SKTL_DATA``. The `Oxford-IIIT Pet
dataset <https://www.robots.ox.ac.uk/~vgg/data/pets/>`_ contains photos of cats (O. M. Parkhi et al., "Cats and Dogs",
CVPR 2012; CC BY-SA 4.0, see the dataset's page). Without a folder, the example draws faces of cats, in three pairs of
look-alikes.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix, top_k_accuracy_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from sktl import PredictionsDisplay, PretrainedImageClassifier
from sktl.datasets import load_image_folder, make_cats

# %%
# Photos are given as paths, and synthetic cats as arrays. The classifier accepts both.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels, side = photos.data, photos.target, None
else:
    print("No folder is named: these cats are synthetic, and accuracies on them say nothing about real ones.")
    cats = make_cats(180, random_state=0)
    images, labels, side = cats.data, cats.target, 96
classes = np.unique(labels)
print(f"{len(labels)} images of {len(classes)} breeds")

# %%
# Predict each image with a model that has not seen it. This takes five fits, but each image passes through the network
# only once.

clf = PretrainedImageClassifier(image_size=side, random_state=0)
folds = StratifiedKFold(5, shuffle=True, random_state=0)
probabilities = cross_val_predict(clf, images, labels, cv=folds, method="predict_proba")
predicted = classes[probabilities.argmax(axis=1)]
print(f"first guess right: {(predicted == labels).mean():.1%}")
print(f"first or second guess right: {top_k_accuracy_score(labels, probabilities, k=2):.1%}")

# %%
# List the pairs that are confused most often, in either direction. Adding photos of *these* breeds helps more than
# adding photos of all breeds. An application can show both names if their probabilities are close.

counts = confusion_matrix(labels, predicted, labels=classes)
pairs = np.triu(counts + counts.T, k=1)
errors = (predicted != labels).sum()
for flat in pairs.ravel().argsort()[::-1][:3]:
    one, other = np.unravel_index(flat, pairs.shape)
    if pairs[one, other]:
        print(f"{classes[one]} and {classes[other]}: {pairs[one, other]} of {errors} errors")

# %%
# Plot the confusion matrix and the most confident errors. Look at these photos first: in real datasets, some of them
# have the wrong label.

figure = plt.figure(figsize=(5.5, 8.8), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1.35, 1])
ax = above.subplots()
display = ConfusionMatrixDisplay(counts, display_labels=classes)
display.plot(ax=ax, cmap="cividis", xticks_rotation=40, colorbar=False)
ax.set_xticks(ax.get_xticks(), ax.get_xticklabels(), ha="right")
ax.set_title(f"{len(labels)} images, {errors} errors")

PredictionsDisplay.from_predictions(
    images, labels, probabilities, classes=classes, select="errors", n_images=6, ax=below.subplots(2, 3)
)
figure.savefig("cat_breeds.png", dpi=120)
print("confusion matrix drawn in cat_breeds.png")
