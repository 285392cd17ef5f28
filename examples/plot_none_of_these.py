"""
Find images that are none of the classes
========================================

A classifier names one of its classes for any image, even for a picture of something else. ``typicality`` shows whether
an image could come from the same source as the training images. This example trains on some classes, and plots the
typicality of new images of these classes, of a class that was left out, and of pictures of something else::

    python examples/plot_none_of_these.py [FOLDER]

FOLDER has one subfolder per class; its last class is left out. You can also set it in the environment variable
``SKTL_DATA``. Without it, the example uses synthetic pictures of cats.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder, make_cats

# %%
# Leave one class out, and keep half of the other images for testing.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
photos = load_image_folder(folder) if folder else make_cats(180, random_state=0)
labels, left_out = photos.target, np.unique(photos.target)[-1]
known = np.flatnonzero(labels != left_out)
train, test = train_test_split(known, test_size=0.5, stratify=labels[known], random_state=0)
side = None if folder else 96
clf = PretrainedImageClassifier(image_size=side, random_state=0)
clf.fit([photos.data[i] for i in train], labels[train])

# %%
# The values are p-values: about 5 % of the new images of known classes have a value of at most 0.05. For the other
# images, compare the values with the predicted probabilities, which are often high.

images = {
    "known classes": [photos.data[i] for i in test],
    f"left out: {left_out}": [photos.data[i] for i in np.flatnonzero(labels == left_out)],
    "handwritten digits": list(load_digits().images[:60] / 16),
}
typicality = {name: clf.typicality(some) for name, some in images.items()}
for name, p_values in typicality.items():
    sure = clf.predict_proba(images[name]).max(axis=1)
    print(
        f"{name:28s}{(p_values <= 0.05).mean():4.0%} have a typicality of at most 0.05, "
        f"{(sure > 0.9).mean():4.0%} get a probability above 0.9"
    )

# %%
# Each curve shows the share of images that are rejected at each threshold. For known classes, it follows the diagonal.

figure, ax = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
for (name, p_values), color in zip(typicality.items(), ("#000000", "#e69f00", "#0072b2"), strict=True):
    ax.step(
        np.concatenate([[0], np.sort(p_values), [1]]),
        np.concatenate([[0], np.arange(1, len(p_values) + 1) / len(p_values), [1]]),
        where="post",
        color=color,
        label=name,
    )
ax.plot([0, 1], [0, 1], color="gray", linestyle=":")
ax.set(xlabel="threshold for typicality", ylabel="share of images turned away", xlim=(0, 1), ylim=(0, 1.02))
ax.legend(loc="lower right")
figure.savefig("none_of_these.png", dpi=120)
print("curves drawn in none_of_these.png")
