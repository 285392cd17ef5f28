"""
Few images per class
====================

How accurate is a classifier with two, five or ten images of each class? With so few images, two things matter more than
tuning: *which* images they are, and a prior that keeps predictions from being overconfident. This example shows the
spread over random draws, and compares the output layer alone with logistic regression on the same features. It also
shows whether training the last stage pays off::

    python examples/plot_few_images.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. Without it, the
example uses images that come with scikit-learn.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.datasets import load_image_folder

# %%
# Hold out most images, to measure accurately what was learned from a few.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = list(digits.images / 16), digits.target
side = None if folder else 64
images, test_images, labels, test_labels = train_test_split(
    images, labels, test_size=min(400, len(labels) // 2), stratify=labels, random_state=0
)
classes = np.unique(labels)


def draw(n, seed):
    """Return n random images of each class, and their labels."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == name))[:n] for name in classes])
    return [images[row] for row in rows], labels[rows]


# %%
# Compare three methods on the same draws. The first two share the features of all images, so together they cost one
# pass. The third also trains the last stage of the network, on cached activations of the earlier stages.

common = {"image_size": side, "random_state": 0}
WAYS = {
    "output layer (the default)": PretrainedImageClassifier(**common),
    "logistic regression": make_pipeline(
        PretrainedImageEncoder(image_size=side), StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "output layer and last stage": PretrainedImageClassifier(trainable_stages=1, augmentation=None, **common),
}
PER_CLASS = [n for n in (2, 5, 10) if n <= np.unique(labels, return_counts=True)[1].min()]
DRAWS = 3
accuracy = {name: np.empty((len(PER_CLASS), DRAWS)) for name in WAYS}
loss = {name: np.empty((len(PER_CLASS), DRAWS)) for name in WAYS}
for name, way in WAYS.items():
    for i, n in enumerate(PER_CLASS):
        for seed in range(DRAWS):
            probabilities = way.fit(*draw(n, seed)).predict_proba(test_images)
            accuracy[name][i, seed] = 100 * (classes[probabilities.argmax(axis=1)] == test_labels).mean()
            loss[name][i, seed] = log_loss(test_labels, probabilities, labels=classes)
        points = accuracy[name][i]
        print(
            f"{name:30s}{n:3d} per class: {points.mean():5.1f} %, draws {points.min():.1f} to {points.max():.1f}, "
            f"log loss {loss[name][i].mean():.2f}"
        )

# %%
# Compare the effect of the draw with the effect of the method. If the effect of the draw is larger, collect more
# images, or more varied images, instead of tuning parameters. Repeat an evaluation over draws
# (``RepeatedStratifiedKFold``) before you trust a difference.

spread = np.mean([values.max(axis=1) - values.min(axis=1) for values in accuracy.values()], axis=0)
ways = np.ptp([values.mean(axis=1) for values in accuracy.values()], axis=0)
for n, a, b in zip(PER_CLASS, spread, ways, strict=True):
    print(f"{n:2d} per class: {a:.1f} points between draws, {b:.1f} between ways")

# %%
# Plot the accuracy and the quality of the probabilities.

figure, (ax, below) = plt.subplots(2, 1, figsize=(5.5, 8), layout="constrained")
for name, colour, marker in zip(WAYS, ("#0072b2", "#e69f00", "#cc79a7"), "os^", strict=True):
    values = accuracy[name]
    ax.plot(PER_CLASS, values.mean(axis=1), marker=marker, color=colour, label=name)
    ax.fill_between(PER_CLASS, values.min(axis=1), values.max(axis=1), color=colour, alpha=0.15)
    below.plot(PER_CLASS, loss[name].mean(axis=1), marker=marker, color=colour)
for panel in (ax, below):
    panel.set_xscale("log")
    panel.set_xticks(PER_CLASS, [str(n) for n in PER_CLASS])
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.set_xlabel("training images of each class")
ax.set(ylabel="accuracy on other images (%)", title="Mean, and range of the draws")
below.set(ylabel="log loss on other images", ylim=(0, None), title="Lower is better")
ax.legend(loc="lower right", fontsize=9)
figure.savefig("few_images.png", dpi=120)
print("curves drawn in few_images.png")
