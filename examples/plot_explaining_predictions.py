"""
Explaining predictions: what was learned, what goes wrong, and where it is seen
===============================================================================

Train a classifier on images that come with scikit-learn, or on a folder of your own with one sub-folder per class, and
look at it with the four displays of sktl::

    python examples/plot_explaining_predictions.py [FOLDER]

The map of places needs Captum: ``pip install '.[explain]'`` in a clone of the repository.
"""

import os
import sys
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktl import (
    FeatureMapDisplay,
    PredictionsDisplay,
    PretrainedImageClassifier,
    SaliencyDisplay,
    TrainingCurveDisplay,
)
from sktl.datasets import load_image_folder

# %%
# Images are paths here if a folder is named, else arrays with values from 0 to 1.

started = time.perf_counter()
folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = digits.images[:500] / 16, digits.target[:500]

train_images, test_images, train_labels, test_labels = train_test_split(
    images, labels, test_size=0.4, stratify=labels, random_state=0
)
validation_images, test_images, validation_labels, test_labels = train_test_split(
    test_images, test_labels, test_size=0.5, stratify=test_labels, random_state=0
)

# %%
# The last stage of the network is trained with the output layer. Without augmentation it is trained on kept
# activations, which takes seconds. Early stopping returns the epoch with the lowest loss on the validation images, or
# the output layer alone if no epoch of the stage is better.

clf = PretrainedImageClassifier(
    trainable_stages=1, augmentation=None, max_epochs=4, early_stopping=True, random_state=0
)
clf.fit(train_images, train_labels, X_val=validation_images, y_val=validation_labels)
print(f"accuracy on held-out images: {clf.score(test_images, test_labels):.1%}")

# %%
# Each display makes a figure of its own, or draws into the ``ax`` of yours. Did training converge, and did the second
# phase help? The validation loss says so.

curve = TrainingCurveDisplay.from_estimator(clf)
curve.figure_.savefig("explaining_training.png", dpi=120)

# %%
# Which classes are alike for the network? Images near each other have similar features.

features = FeatureMapDisplay.from_estimator(clf, test_images, test_labels, thumbnails=True)
features.figure_.savefig("explaining_features.png", dpi=120)

# %%
# What goes wrong? The errors come first of which the classifier was most sure: often wrong labels, or odd images.

errors = PredictionsDisplay.from_estimator(clf, test_images, test_labels, select="errors", n_images=6, n_columns=3)
errors.figure_.savefig("explaining_errors.png", dpi=120)
print(f"{len(errors.images)} errors shown")

# %%
# Where does the network see the class that it predicts? Here for images that it is least sure about, right or wrong.
# ``target=`` asks about another class.

unsure = np.argsort(clf.predict_proba(test_images).max(axis=1))[:6]
seen = SaliencyDisplay.from_estimator(clf, [test_images[i] for i in unsure], n_columns=3)
seen.figure_.savefig("explaining_predictions.png", dpi=120)
print(f"drawn in explaining_predictions.png, {time.perf_counter() - started:.0f} s in all")
