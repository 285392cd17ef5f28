"""
Calibrate probabilities and reject uncertain predictions
========================================================

If a classifier predicts 80 % for ten images, about eight of these predictions should be correct. If probabilities are
reliable in this sense, you can use a threshold: the classifier decides above it, and a person decides below it. This
example measures how reliable probabilities are, calibrates them, and plots the accuracy on the images that the
classifier decides against their share::

    python examples/plot_calibration_and_rejection.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. Without it, the
example uses images that come with scikit-learn.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder, make_cats

# %%
# Make a hard task from a few small images, so that the classifier is uncertain.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = list(digits.images / 16), digits.target
images, test_images, labels, test_labels = train_test_split(
    images, labels, test_size=0.6, stratify=labels, random_state=0
)
images, labels = images[:250], labels[:250]
side = 96 if folder else 48

# %%
# Compare three classifiers: the default; a classifier with a weight penalty that is far too strong, which makes it
# underconfident; and the second classifier again, calibrated on folds of the training images by a single number, the
# temperature (C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).

clf = PretrainedImageClassifier(image_size=side, random_state=0)
modest = PretrainedImageClassifier(image_size=side, weight_decay=0.6, random_state=0)
fitted = {
    "as it comes": clf.fit(images, labels),
    "weight_decay=0.6": modest.fit(images, labels),
    "weight_decay=0.6, calibrated": CalibratedClassifierCV(modest, method="temperature", cv=5).fit(images, labels),
}
classes = clf.classes_
probabilities = {name: model.predict_proba(test_images) for name, model in fitted.items()}


def reliability(probability):
    """Return mean confidence, accuracy and number of images in ten bins of confidence."""
    confidence, right = probability.max(axis=1), classes[probability.argmax(axis=1)] == test_labels
    bins = np.minimum((10 * confidence).astype(int), 9)
    used = np.flatnonzero(np.bincount(bins, minlength=10) >= 10)
    parts = [bins == k for k in used]
    return np.array([(confidence[part].mean(), right[part].mean(), part.sum()) for part in parts]).T


for name, probability in probabilities.items():
    confidence, right, n = reliability(probability)
    error = (n * abs(confidence - right)).sum() / n.sum()
    said = classes[probability.argmax(axis=1)]
    print(
        f"{name:30s}accuracy {(said == test_labels).mean():.1%}, log loss "
        f"{log_loss(test_labels, probability, labels=classes):.3f}, calibration error {error:.3f}"
    )

# %%
# To reject predictions, sort them by confidence and let a person decide the least confident ones. Choose the threshold
# on images that the model was not trained on. The threshold is only valid for similar images: for an object of an
# unknown class, a classifier still distributes 100 % among the classes that it knows.

right, kept = {}, np.arange(1, len(test_labels) + 1) / len(test_labels)
for name, probability in probabilities.items():
    order = probability.max(axis=1).argsort()[::-1]
    hits = (classes[probability.argmax(axis=1)] == test_labels)[order]
    right[name] = hits.cumsum() / np.arange(1, len(hits) + 1)
wanted = 0.99
for name, accuracy in right.items():
    share = kept[np.flatnonzero(accuracy >= wanted).max(initial=0)]
    print(f"{name}: decides {share:.0%} of the images at an accuracy of {wanted:.0%}")

strangers = list(make_cats(60, random_state=0).data)
sure = clf.predict_proba(strangers).max(axis=1)
print(f"faces of cats, which are in no class: {(sure > 0.9).mean():.0%} get a probability above 0.9")

# %%
# On the diagonal, probabilities match the observed frequencies; below the diagonal, the classifier is overconfident.

figure, (ax, other) = plt.subplots(2, 1, figsize=(5.5, 8), layout="constrained")
for (name, probability), colour, marker in zip(
    probabilities.items(), ("#000000", "#e69f00", "#0072b2"), "o^s", strict=True
):
    confidence, accuracy, _ = reliability(probability)
    ax.plot(confidence, accuracy, marker=marker, color=colour, label=name)
    other.plot(100 * kept, 100 * right[name], color=colour)
ax.plot([0, 1], [0, 1], color="grey", linestyle=":")
ax.set(xlabel="probability of the named class", ylabel="share that is right", title="Calibration", xlim=(0, 1))
ax.legend(loc="upper left", fontsize=9)
other.axhline(100 * wanted, color="grey", linestyle=":")
other.set(xlabel="images that are decided (%)", ylabel="of them right (%)", title="Handing over the least sure")
figure.savefig("calibration_and_rejection.png", dpi=120)
print("curves drawn in calibration_and_rejection.png")
