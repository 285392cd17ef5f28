"""
Imbalanced classes
==================

If one class is rare, accuracy says little: a classifier that never predicts the rare class is nearly always right. This
example makes a class rare, and compares four options: no change, weights, copies of the rare images, and another
threshold. Weights and thresholds adjust the same trade-off between missed rare images and false alarms. The best
compromise depends on the cost of each kind of error::

    python examples/plot_imbalanced_classes.py [FOLDER]

FOLDER has one subfolder per class, the first of which is made rare. You can also set it in the environment variable
``SKTL_DATA``. Without it, the example uses images that come with scikit-learn.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score, balanced_accuracy_score, precision_recall_curve
from sklearn.model_selection import train_test_split

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder

# %%
# Classify one class against all others. One in thirty training images belongs to the rare class, and the share is the
# same in the test images, as in practice.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = list(digits.images / 16), digits.target
rare = np.unique(labels)[0] if folder else 8
is_rare = labels == rare
rng = np.random.default_rng(0)
few = rng.permutation(np.flatnonzero(is_rare))[: max(8, (~is_rare).sum() // 30)]
rows = np.concatenate([few, np.flatnonzero(~is_rare)])
images, test_images, is_rare, test_is_rare = train_test_split(
    [images[row] for row in rows], is_rare[rows], test_size=0.5, stratify=is_rare[rows], random_state=0
)
print(f"{is_rare.sum()} of {len(is_rare)} images to learn from are of the class {rare}")
print(f"accuracy of never naming it: {1 - test_is_rare.mean():.1%}")

# %%
# ``class_weight="balanced"`` weights images in the loss in inverse proportion to the size of their class. You can also
# pass a weight for each image as ``sample_weight``, for instance to trust some labels less than others. Copies of rare
# images have nearly the same effect, but make epochs longer.

clf = PretrainedImageClassifier(image_size=None if folder else 64, random_state=0)
heavy = {True: 5.0, False: 1.0}
copies = np.concatenate([np.arange(len(is_rare)), np.repeat(np.flatnonzero(is_rare), 4)])
fitted = {
    "as it is": clf.fit(images, is_rare).predict_proba(test_images)[:, 1],
    "rare images count five times": clf.fit(
        images, is_rare, sample_weight=[heavy[label] for label in is_rare.tolist()]
    ).predict_proba(test_images)[:, 1],
    "four copies of rare images": clf.fit([images[i] for i in copies], is_rare[copies]).predict_proba(test_images)[
        :, 1
    ],
    "balanced weights": clf.set_params(class_weight="balanced").fit(images, is_rare).predict_proba(test_images)[:, 1],
}
for name, probability in fitted.items():
    said = probability > 0.5
    found, alarms = (said & test_is_rare).sum(), (said & ~test_is_rare).sum()
    print(
        f"{name:30s}finds {found:2d} of {test_is_rare.sum()}, {alarms:2d} false alarms; "
        f"accuracy {(said == test_is_rare).mean():.1%}, balanced {balanced_accuracy_score(test_is_rare, said):.1%}, "
        f"average precision {average_precision_score(test_is_rare, probability):.2f}"
    )

# %%
# Compare the same models at all thresholds. The dot marks a threshold of 0.5: weights mainly move it along the curve.
# With weights, predicted probabilities no longer match the observed frequency of the rare class, because it was not
# rare in the weighted training data. If you move the threshold instead, probabilities keep their meaning.

figure, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
colours = ("#000000", "#0072b2", "#e69f00", "#cc79a7")
for (name, probability), colour, line in zip(fitted.items(), colours, ("-", "--", ":", "-."), strict=True):
    precision, recall, thresholds = precision_recall_curve(test_is_rare, probability)
    ax.plot(100 * recall, 100 * precision, line, color=colour, label=name)
    at = np.searchsorted(thresholds, 0.5)
    ax.plot(100 * recall[at], 100 * precision[at], "o", markersize=8, color=colour)
ax.axhline(100 * test_is_rare.mean(), color="grey", linewidth=0.8, label="naming it at random")
ax.set(xlabel="rare images that are found (%)", ylabel="alarms that are right (%)", ylim=(0, 103))
ax.set_title("Dots: a probability of 0.5")
ax.grid(alpha=0.3)
ax.legend(loc="lower left", fontsize=9)
figure.savefig("imbalanced_classes.png", dpi=120)
print("curves drawn in imbalanced_classes.png")
