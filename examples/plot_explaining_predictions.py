"""
Explaining predictions: training curve, errors and saliency maps
================================================================

Train a classifier on images that come with scikit-learn, or on your own folder with one subfolder per class, and
inspect it with sktl's four displays::

    python examples/plot_explaining_predictions.py [FOLDER]

The saliency map needs Captum: run ``pip install '.[explain]'`` in a clone of the repository.
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
# Images are paths if you pass a folder, and arrays with values from 0 to 1 otherwise.

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
# Train the last two stages of the network with the output layer. When stages are trained, the output layer only
# receives features of these stages, and features of two stages describe drawings better than features of the last one.
# Without augmentation, the stages are trained on cached activations, which takes only seconds. Early stopping returns
# the weights of the epoch with the lowest loss on the validation images, or the output layer alone if no epoch of the
# stages is better.

clf = PretrainedImageClassifier(
    trainable_stages=2, augmentation=None, max_epochs=8, early_stopping=True, random_state=0
)
clf.fit(train_images, train_labels, X_val=validation_images, y_val=validation_labels)
print(f"accuracy on held-out images: {clf.score(test_images, test_labels):.1%}")

# %%
# Each display creates its own figure, or plots into the ``ax`` that you pass. The validation loss shows whether
# training converged, and whether the second phase helped.

curve = TrainingCurveDisplay.from_estimator(clf)
curve.figure_.savefig("explaining_training.png", dpi=120)

# %%
# Which classes look alike to the network? Images that are close together have similar features.

features = FeatureMapDisplay.from_estimator(clf, test_images, test_labels, thumbnails=True)
features.figure_.savefig("explaining_features.png", dpi=120)

# %%
# Which predictions are wrong? The most confident errors come first. They are often due to wrong labels or unusual
# images.

errors = PredictionsDisplay.from_estimator(clf, test_images, test_labels, select="errors", n_images=6, n_columns=3)
errors.figure_.savefig("explaining_errors.png", dpi=120)
print(f"{len(errors.images)} errors shown")

# %%
# Where does the network see the class that it predicts? These are the images with the least confident predictions,
# right or wrong. ``target=`` selects another class.

unsure = np.argsort(clf.predict_proba(test_images).max(axis=1))[:6]
seen = SaliencyDisplay.from_estimator(clf, [test_images[i] for i in unsure], n_columns=3)
seen.figure_.savefig("explaining_predictions.png", dpi=120)
print(f"drawn in explaining_predictions.png, {time.perf_counter() - started:.0f} s in all")
