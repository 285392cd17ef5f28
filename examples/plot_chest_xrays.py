"""
Chest X-rays: several images of one patient
===========================================

Images of one patient look alike for reasons that have nothing to do with the disease: the anatomy, a wire, the machine.
If you train on some images of a patient and test on others, a classifier can recognize the patient and repeat the
diagnosis. The test score then overestimates the score for new patients. This example measures by how much. It then
chooses a threshold for a target sensitivity, without using the patients on which the threshold is evaluated::

    python examples/plot_chest_xrays.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. The patient is read
from file names such as ``person12_virus_47.jpeg`` or ``IM-0115-0001.jpeg``, as in the X-rays of D. Kermany et al.
("Identifying Medical Diagnoses and Treatable Diseases by Image-Based Deep Learning", Cell 2018), published on
`Mendeley Data <https://data.mendeley.com/datasets/rscbjbr9sj/2>`_ (CC BY 4.0). Without a folder, the example draws
chests, with four images of each patient.

This example is not a medical device, and does not meet the requirements for one.
"""

import os
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import RocCurveDisplay, recall_score, roc_auc_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
)

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder, make_radiographs

# %%
# Load images, labels and patients. X-rays are gray, but the network needs three channels, so the gray channel is
# repeated three times.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels, side = photos.data, photos.target, None
    found = [re.search(r"person\d+|IM-\d+", Path(path).name) for path in images]
    patients = np.array([match[0] if match else path for match, path in zip(found, images, strict=True)])
else:
    print("No folder is named: these X-rays are synthetic, and accuracies on them say nothing about real ones.")
    drawn = make_radiographs(120, images_per_patient=4, random_state=0)
    images, labels, patients, side = drawn.data, drawn.target, drawn.groups, 96
is_ill = np.array(["normal" not in label.lower() for label in labels])
print(f"{len(labels)} images of {len(np.unique(patients))} patients, {is_ill.mean():.0%} of the images show an illness")

# %%
# Evaluate the same classifier twice with the same number of folds: first with folds of single images, and then with
# folds of patients, so that a classifier is never tested on patients that it was trained on. (Left and right differ in
# a chest: if you also train stages of the network, pass an ``augmentation`` that does not mirror.)

clf = PretrainedImageClassifier(image_size=side, class_weight="balanced", random_state=0)
by_image = StratifiedKFold(5, shuffle=True, random_state=0)
by_patient = StratifiedGroupKFold(5, shuffle=True, random_state=0)
promised = cross_val_predict(clf, images, is_ill, cv=by_image, method="predict_proba")[:, 1]
kept = cross_val_predict(clf, images, is_ill, groups=patients, cv=by_patient, method="predict_proba")[:, 1]
print(f"images dealt out:   area under the ROC curve {roc_auc_score(is_ill, promised):.3f}")
print(f"patients dealt out: area under the ROC curve {roc_auc_score(is_ill, kept):.3f}")

# %%
# You do not have to use a threshold of 0.5. If missing a disease costs more than a second examination, choose the
# threshold that finds nine in ten patients with the disease. This example chooses it on out-of-fold predictions for
# patients of the training set, where it finds nine in ten by construction. The sensitivity for other patients is
# measured on the test set, and differs, because the test set has few patients.

wanted = 0.9
train, test = next(by_patient.split(images, is_ill, patients))
X_train, X_test = [images[i] for i in train], [images[i] for i in test]
scores = cross_val_predict(
    clf, X_train, is_ill[train], groups=patients[train], cv=StratifiedGroupKFold(5), method="predict_proba"
)[:, 1]
threshold = np.quantile(scores[is_ill[train]], 1 - wanted, method="lower")
chosen_on = (scores[is_ill[train]] >= threshold).mean()
print(f"threshold {threshold:.2f}: finds {chosen_on:.0%} of the ill on whom it was chosen")
careful = FixedThresholdClassifier(clf, threshold=threshold, response_method="predict_proba")
careful.fit(X_train, is_ill[train])
print(f"among {len(np.unique(patients[test]))} other patients:")
for name, at, model in (("as it is", 0.5, careful.estimator_), ("careful", threshold, careful)):
    said = model.predict(X_test)
    sensitivity, specificity = (recall_score(is_ill[test], said, pos_label=ill) for ill in (True, False))
    print(f"{name}, threshold {at:.2f}: finds {sensitivity:.0%} of the ill, lets {specificity:.0%} of the others go")

# %%
# The gap between the curves shows how much an evaluation by images overestimates the accuracy for new patients. The
# histogram shows the predictions on which the threshold was chosen. Its legend shows the sensitivity for these patients
# and for other patients.

figure, (ax, below) = plt.subplots(2, 1, figsize=(5.5, 8), layout="constrained")
for scores_, name, colour in ((promised, "images dealt out", "#e69f00"), (kept, "patients dealt out", "#0072b2")):
    RocCurveDisplay.from_predictions(is_ill, scores_, name=name, ax=ax, curve_kwargs={"color": colour})
ax.axhline(wanted, color="grey", linestyle=":")
ax.set(xlabel="share of the healthy called ill", ylabel="share of the ill who are found", title="Two evaluations")
ax.legend(loc="lower right", fontsize=9)

bins = np.linspace(0, 1, 21)
for ill, colour in ((False, "#999999"), (True, "#d55e00")):
    below.hist(scores[is_ill[train] == ill], bins, alpha=0.7, color=colour, label="ill" if ill else "healthy")
share = f"threshold: finds {chosen_on:.0%} of these,\n{sensitivity:.0%} of the ill among others"
below.axvline(threshold, color="black", label=share)
below.set(xlabel="predicted probability of an illness", ylabel="images", title="Where the threshold falls")
below.legend(fontsize=8)
figure.savefig("chest_xrays.png", dpi=120)
print("curves drawn in chest_xrays.png")
