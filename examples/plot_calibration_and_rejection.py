"""
Sure or unsure: calibration, and leaving hard cases to people
=============================================================

Of the images for which a classifier says 80 %, eight in ten should be right. If that holds, a threshold on the
probability is a contract: everything above it is decided by the machine, the rest by people. This example measures how
far probabilities can be trusted, calibrates them, and draws what share of the images has to be handed over for a wanted
accuracy of the rest::

    python examples/plot_calibration_and_rejection.py [FOLDER]

FOLDER has one sub-folder per class; the environment variable ``SKTL_DATA`` can name it, too. Without it, images come
with scikit-learn.
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
# A hard task, made from few images at a small size, so that there is something to be unsure about.

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
# As it comes; with twenty times the penalty on weights, which makes it far too modest; and the latter calibrated in
# folds of the training images by one number, the temperature (C. Guo et al., "On Calibration of Modern Neural
# Networks", ICML 2017).

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
# Rejection: sort by confidence and hand over the least sure. Choose the threshold on images that the model has not been
# trained on, and remember that it holds for images like these: in front of what is no member of any class, a classifier
# still shares out 100 % among those that it knows.

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
# On the diagonal, a probability is what it says; below it, too sure.

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
