"""
Features for other estimators: neighbors, support vectors, clusters
===================================================================

The features of a pretrained network are ordinary columns of numbers. The transformer ``PretrainedImageEncoder``
computes them, so you can use any scikit-learn estimator on images. This example compares classifiers, finds the images
that are most similar to a photo, and clusters images without labels::

    python examples/plot_features_for_other_estimators.py [FOLDER]

FOLDER has one subfolder per class. You can also set it in the environment variable ``SKTL_DATA``. Without it, the
example uses images that come with scikit-learn.
"""

import os
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageOps
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.svm import SVC

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.datasets import load_image_folder

# %%
# Use at most six hundred images to keep the example fast.

folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = list(digits.images / 16), digits.target
if len(labels) > 600:
    images, _, labels, _ = train_test_split(images, labels, train_size=600, stratify=labels, random_state=0)
side = None if folder else 64

# %%
# In a pipeline, an estimator only sees rows of numbers. All pipelines and folds share the cached features: the first
# pipeline runs the network, and the others only train their estimators.

encoder = PretrainedImageEncoder(image_size=side)
CLASSIFIERS = {
    "5 nearest neighbours": make_pipeline(encoder, Normalizer(), KNeighborsClassifier(5)),
    "support vectors": make_pipeline(encoder, StandardScaler(), SVC(C=10)),
    "ridge": make_pipeline(encoder, StandardScaler(), RidgeClassifier(1000)),
    "PCA, 5 neighbours": make_pipeline(encoder, StandardScaler(), PCA(50, random_state=0), KNeighborsClassifier(5)),
    "PretrainedImageClassifier": PretrainedImageClassifier(image_size=side, random_state=0),
}
for name, classifier in CLASSIFIERS.items():
    started = time.perf_counter()
    scores = cross_val_score(classifier, images, labels, cv=5)
    print(f"{name:28s}{scores.mean():.1%} in {time.perf_counter() - started:.1f} s")

# %%
# Find similar images as neighbors in feature space. If all rows have length one, the Euclidean distance compares
# directions.

features = make_pipeline(encoder, Normalizer()).fit_transform(images)
neighbours = NearestNeighbors(n_neighbors=6).fit(features)
asked = [np.flatnonzero(labels == name)[0] for name in np.unique(labels)[:4]]
_, found = neighbours.kneighbors(features[asked])
same = (labels[neighbours.kneighbors(features, return_distance=False)[:, 1:]] == labels[:, None]).mean()
print(f"of the five images that are most similar to one, {same:.0%} are of its class")

# %%
# Cluster images without labels. The clusters may differ from the classes that you have in mind, because the features
# may depend more on the background, the light or the pose.

reduced = make_pipeline(StandardScaler(), PCA(30, random_state=0)).fit_transform(features)
clusters = KMeans(len(np.unique(labels)), n_init=10, random_state=0).fit_predict(reduced)
print(f"agreement of clusters and classes (adjusted Rand index): {adjusted_rand_score(labels, clusters):.2f}")

# %%
# Each row shows an image on the left, followed by the most similar images. Files are shown upright and in RGB, as the
# encoder reads them.


def opened(image):
    """Return an image for imshow."""
    return ImageOps.exif_transpose(Image.open(image)).convert("RGB") if folder else image


figure, axes = plt.subplots(len(asked), 5, figsize=(5.5, 1.35 * len(asked)), layout="constrained")
for row, indices in zip(axes, found[:, :5], strict=True):
    for column, (ax, i) in enumerate(zip(row, indices, strict=True)):
        ax.imshow(opened(images[i]), cmap="gray")
        ax.set_title(f"{labels[i]}", fontsize=10, color="black" if labels[i] == labels[indices[0]] else "crimson")
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set(linewidth=2.5 if column == 0 else 0, color="#0072b2")
figure.suptitle("The framed image, and the most similar ones")
figure.savefig("features_for_other_estimators.png", dpi=120)
print("neighbours drawn in features_for_other_estimators.png")
