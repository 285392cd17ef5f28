"""
Several labels for each image
=============================

An aerial photo can show trees, houses and a road at once, or none of them. This example trains one classifier for all
labels, scores each label separately, and chooses a threshold for each label. Thresholds matter most for labels that are
rare, or hard to see::

    python examples/plot_several_labels.py [TABLE]

TABLE is a CSV file with one line per image. The first column contains file names, relative to the folder of TABLE.
Every column that contains only 0 and 1 is a label. Without TABLE, the example draws aerial photos.
"""

import csv
import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split

from sktl import PretrainedImageClassifier

# %%
# The labels are a table of zeros and ones: a row for each image and a column for each label. In the drawn photos, cars
# need a road, and boats need water.


def read(table):
    """Return the paths, the names of the labels, and the table of labels in a CSV file."""
    with open(table, newline="") as file:
        names, *lines = csv.reader(file)
    columns = np.array(lines).T
    is_label = [set(column) <= {"0", "1"} for column in columns]
    paths = [str(Path(table).parent / name) for name in columns[0]]
    return paths, np.array(names)[is_label], columns[is_label].T.astype(int)


def draw(rng, size=96):
    """Draw an aerial photo. Return its pixels and its labels."""
    water, road, trees, houses = rng.random(4) < (0.3, 0.5, 0.5, 0.4)
    cars, boats = road and rng.random() < 0.6, water and rng.random() < 0.3
    photo = Image.new("RGB", (size, size), tuple(rng.integers((90, 110, 60), (160, 150, 100))))
    pen = ImageDraw.Draw(photo)

    def rectangle(x, y, wide, high, colour):
        pen.rectangle([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], fill=tuple(int(c) for c in colour))

    if water:
        x, y, r = rng.integers((20, 60, 18), (76, 80, 30))
        pen.ellipse([x - 1.5 * r, y - r, x + 1.5 * r, y + r], fill=tuple(rng.integers((30, 60, 90), (70, 100, 150))))
        for _ in range(rng.integers(1, 3) * boats):
            u, v = (x, y) + r * rng.uniform(-0.6, 0.6, 2)
            pen.ellipse([u - 4, v - 2, u + 4, v + 2], fill=(235, 235, 230))
    if road:
        y = rng.integers(15, 40)
        rectangle(size / 2, y, size, 13, rng.integers(80, 110) * np.ones(3))
        for x in rng.permutation(np.arange(8, size, 14))[: rng.integers(1, 4) * cars]:
            rectangle(x, y + rng.choice((-3, 3)), 7, 4, rng.integers(0, 256, 3))
    for x, y in rng.integers(8, size - 8, (rng.integers(2, 6) * houses, 2)):
        rectangle(x + 2, y + 2, 14, 11, (60, 60, 50))  # its shadow
        rectangle(x, y, 14, 11, rng.integers((140, 70, 60), (210, 120, 110)))
    for x, y in rng.integers(4, size - 4, (rng.integers(6, 20) * trees, 2)):
        r = rng.integers(3, 7)
        pen.ellipse([x - r, y - r, x + r, y + r], fill=tuple(rng.integers((25, 60, 20), (60, 95, 45))))
    pixels = np.asarray(photo) + rng.normal(0, 20, (size, size, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), [water, road, trees, houses, cars, boats]


if sys.argv[1:]:
    images, names, table = read(sys.argv[1])
else:
    print("No table is named: these photos are synthetic, and scores on them say nothing about real ones.")
    rng = np.random.default_rng(0)
    images, table = zip(*(draw(rng) for _ in range(600)), strict=True)
    names, table = ["water", "road", "trees", "houses", "cars", "boats"], np.array(table).astype(int)
images, test_images, table, test_table = train_test_split(images, table, test_size=0.5, random_state=0)
print(f"{len(table)} images to learn from, with {table.sum(axis=1).mean():.1f} of {len(names)} labels on average")

# %%
# One fit trains all labels. The accuracy counts an image only if all its labels are correct, as in all multilabel
# classifiers of scikit-learn. Score each label instead: average precision is 1 if the images that have the label get
# the highest probabilities.

clf = PretrainedImageClassifier(image_size=None if sys.argv[1:] else 96, random_state=0).fit(images, table)
probabilities = clf.predict_proba(test_images)
precision = average_precision_score(test_table, probabilities, average=None)
print(f"all labels of an image correct: {clf.score(test_images, test_table):.1%}")

# %%
# A label is predicted if its probability is above 0.5. To choose better thresholds, use probabilities of the training
# images from classifiers that were not trained on them. scikit-learn does not stratify folds by several labels, so
# stratify by the rarest label of each image. A threshold that was chosen on few images can be worse than 0.5.

rarest = (table / np.maximum(table.sum(axis=0), 1)).argmax(axis=1)
folds = list(StratifiedKFold(5, shuffle=True, random_state=0).split(images, rarest))
held_out = cross_val_predict(clf, list(images), table, cv=folds, method="predict_proba")


def best_threshold(has_label, probability):
    """Return the threshold with the highest F1 score."""
    precision, recall, thresholds = precision_recall_curve(has_label, probability)
    return thresholds[(2 * precision * recall / np.maximum(precision + recall, 1e-12))[:-1].argmax()]


thresholds = np.array([best_threshold(*columns) for columns in zip(table.T, held_out.T, strict=True)])
usual = f1_score(test_table, probabilities > 0.5, average=None, zero_division=0)
chosen = f1_score(test_table, probabilities >= thresholds, average=None, zero_division=0)
print("label         images   average precision   F1 at 0.5   F1 at its own threshold")
for i in np.argsort(table.sum(axis=0)):
    print(
        f"{names[i]:14s}{table[:, i].sum():6d}{precision[i]:20.2f}{usual[i]:12.2f}{chosen[i]:12.2f} at "
        f"{thresholds[i]:.2f}"
    )

# %%
# Plot both scores of each label, and some test images with their predicted labels. Red titles mark errors.

figure = plt.figure(figsize=(6.5, 8.2), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.3])
ax = above.subplots()
order = np.argsort(table.sum(axis=0))
places = np.arange(len(names))
ax.hlines(places, usual[order], chosen[order], color="grey", linewidth=1)
ax.plot(usual[order], places, "o", color="#0072b2", markerfacecolor="white", label="0.5 for all labels")
ax.plot(chosen[order], places, "o", color="#0072b2", label="a threshold for each label")
ax.set_yticks(places, [f"{names[i]} ({table[:, i].sum()})" for i in order])
ax.set(xlabel="F1 score on test images", title="Labels, and how many training images have them")
ax.grid(alpha=0.3)
ax.legend()
for ax, image, truth, predicted in zip(
    below.subplots(2, 3).flat, test_images, test_table, probabilities >= thresholds, strict=False
):
    ax.axis("off")
    ax.imshow(Image.open(image) if isinstance(image, str) else image)
    text = ", ".join(np.array(names)[predicted]) or "no label"
    ax.set_title(textwrap.fill(text, 24), fontsize=9, color="black" if (predicted == truth).all() else "#c00000")
figure.savefig("several_labels.png", dpi=120)
print("scores drawn in several_labels.png")
