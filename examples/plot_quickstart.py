"""
Quickstart: images in, classes out
==================================

Train a classifier on images that come with scikit-learn, or on your own folder with one subfolder per class::

    python examples/plot_quickstart.py [FOLDER]

Each image passes through the pretrained network once. Only a single layer on top of its features is trained.
"""

import os
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktl import PredictionsDisplay, PretrainedImageClassifier
from sktl.datasets import load_image_folder

# %%
# Images are paths if you pass a folder, and arrays with values from 0 to 1 otherwise.

started = time.perf_counter()
folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = digits.images[:1000] / 16, digits.target[:1000]

train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=0.25, stratify=labels, random_state=0
)
print(f"{len(train_images)} images to learn from, {len(test_images)} held out, {len(np.unique(labels))} classes")

# %%
# Fit and predict as with any other estimator. ``verbose=1`` shows the progress of the pass over the images.

clf = PretrainedImageClassifier(random_state=0, verbose=1)
loaded = time.perf_counter()
clf.fit(train_images, train_labels)
fitted = time.perf_counter()
probabilities = clf.predict_proba(test_images)
done = time.perf_counter()

accuracy = (clf.classes_[probabilities.argmax(axis=1)] == test_labels).mean()
print(f"accuracy on held-out images: {accuracy:.1%}")
print(f"time: prepare {loaded - started:.1f} s, fit {fitted - loaded:.1f} s, predict {done - fitted:.1f} s")

# %%
# A second fit does not run the network again, because the features of these images are cached.

clf.set_params(lr=3e-3, verbose=0).fit(train_images, train_labels)
print(f"time of a second fit, with another learning rate: {time.perf_counter() - done:.1f} s")

# %%
# Look at some predictions of the first fit with their probabilities. Wrong predictions are red and also show the
# correct class.

figure, axes = plt.subplots(4, 4, figsize=(5.5, 6.6), layout="constrained")
PredictionsDisplay.from_predictions(
    test_images, test_labels, probabilities, classes=clf.classes_, n_images=16, random_state=0, ax=axes
)
figure.suptitle(f"Predictions for held-out images (accuracy {accuracy:.1%})")
figure.savefig("quickstart.png", dpi=120)
print("predictions drawn in quickstart.png")
