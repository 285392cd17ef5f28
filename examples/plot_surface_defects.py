"""
Surface defects: how many samples, and which class has the most errors?
=======================================================================

A factory has thousands of good parts and a handful of parts with each defect. This example starts with a few images of
each class, adds more, and scores each class separately. The curves show which defect needs more samples, and when to
stop collecting::

    python examples/plot_surface_defects.py [FOLDER]

FOLDER has one subfolder per kind of defect. You can also set it in the environment variable ``SKTL_DATA``. Gray images
of hot-rolled steel, 200 x 200 pixels, are `published by their authors
<http://faculty.neu.edu.cn/songkechen/zh_CN/zdylm/263270/list/index.htm>`_ at Northeastern University, China (K. Song
and Y. Yan, "A noise robust method based on completed local binary patterns for hot-rolled steel strip surface defects",
Applied Surface Science 2013, doi:10.1016/j.apsusc.2013.09.002). The authors state no license that we know of, so ask
them about any use beyond research. Without a folder, the example draws surfaces.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import classification_report, recall_score
from sklearn.model_selection import train_test_split

from sktl import PredictionsDisplay, PretrainedImageClassifier
from sktl.datasets import load_image_folder, make_surface_defects

# %%
# Gray images need no preparation: pass an array of shape (n, H, W), or gray image files.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels, side = photos.data, photos.target, None
else:
    print("No folder is named: these surfaces are synthetic, and accuracies on them say nothing about real ones.")
    drawn = make_surface_defects(360, random_state=0)
    images, labels, side = drawn.data, drawn.target, 96
classes = np.unique(labels)
images, test_images, labels, test_labels = train_test_split(
    list(images), labels, test_size=1 / 3, stratify=labels, random_state=0
)
print(f"{len(labels)} images to learn from, {len(test_labels)} to measure on, {len(classes)} kinds of defects")

# %%
# Train on sets of increasing size, with five random sets of each size: with so few images, it matters which they are.
# All sets share the cached features, so each image passes through the network once.

PER_CLASS = [n for n in (2, 4, 8, 16, 32, 64) if n <= np.unique(labels, return_counts=True)[1].min()]
clf = PretrainedImageClassifier(image_size=side, random_state=0)
recalls = np.empty((len(PER_CLASS), 5, len(classes)))
for i, n in enumerate(PER_CLASS):
    for draw in range(5):
        rng = np.random.default_rng(draw)
        rows = np.concatenate([rng.permutation(np.flatnonzero(labels == name))[:n] for name in classes])
        clf.fit([images[row] for row in rows], labels[rows])
        recalls[i, draw] = recall_score(test_labels, clf.predict(test_images), labels=classes, average=None)
    print(f"{n:3d} of each: {recalls[i].mean():.1%} found, from {recalls[i].min():.0%} to {recalls[i].max():.0%}")

# %%
# Score the classifier trained on all images. Precision is the share of correct alarms, and recall is the share of
# defects that are found.

clf.fit(images, labels)
predicted = clf.predict(test_images)
print(classification_report(test_labels, predicted, digits=2, zero_division=0))

# %%
# Plot the score of each class with its spread over the five draws, and show defects that were missed. A thin scratch
# can be narrower than a pixel in a small image. An ``image_size`` above the default size of the weights takes more
# time, but can make the scratch visible.

figure = plt.figure(figsize=(5.5, 8.4), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1])
ax = above.subplots()
for k, (name, marker) in enumerate(zip(classes, "os^vDP*X" * 5, strict=False)):
    mean, spread = recalls[..., k].mean(axis=1), recalls[..., k].std(axis=1)
    ax.errorbar(PER_CLASS, 100 * mean, 100 * spread, marker=marker, capsize=3, label=name)
ax.set_xscale("log", base=2)
ax.set_xticks(PER_CLASS, [str(n) for n in PER_CLASS])
ax.set(xlabel="training images of each class", ylabel="defects found (%)", ylim=(0, 103))
ax.grid(alpha=0.3)
ax.legend(loc="lower right")
ax.set_title("Which defect needs more samples?")
PredictionsDisplay.from_predictions(
    test_images, test_labels, clf.predict_proba(test_images), classes=clf.classes_, select="errors", n_images=6,
    ax=below.subplots(2, 3),
)  # fmt: skip
figure.savefig("surface_defects.png", dpi=120)
print("curves drawn in surface_defects.png")
