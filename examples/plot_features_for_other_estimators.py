"""
Features for other estimators: neighbours, support vectors, clusters
====================================================================

The features of a pretrained network are columns of numbers like any others. ``PretrainedImageEncoder`` is a transformer
that computes them, so that every estimator of scikit-learn works on images: this example compares classifiers, finds
the most similar images of a photo, and groups images without any labels::

    python examples/plot_features_for_other_estimators.py [FOLDER]

FOLDER has one sub-folder per class; the environment variable ``SKTL_DATA`` can name it, too. Without it, images come
with scikit-learn.
"""

import os
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
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
# Six hundred images at most, to keep this short.

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
# In a pipeline, an estimator never sees that its rows were images. All pipelines share the features, whatever the fold:
# the first pays for the pass over the network, the others only for themselves.

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
# Similar images: neighbours in feature space. Rows of length one make the Euclidean distance one of directions.

features = make_pipeline(encoder, Normalizer()).fit_transform(images)
neighbours = NearestNeighbors(n_neighbors=6).fit(features)
asked = [np.flatnonzero(labels == name)[0] for name in np.unique(labels)[:4]]
_, found = neighbours.kneighbors(features[asked])
same = (labels[neighbours.kneighbors(features, return_distance=False)[:, 1:]] == labels[:, None]).mean()
print(f"of the five images that are most similar to one, {same:.0%} are of its class")

# %%
# Groups without labels. Clusters need not be the classes that you have in mind: the network may find the background,
# the light or the pose more striking.

reduced = make_pipeline(StandardScaler(), PCA(30, random_state=0)).fit_transform(features)
clusters = KMeans(len(np.unique(labels)), n_init=10, random_state=0).fit_predict(reduced)
print(f"agreement of clusters and classes (adjusted Rand index): {adjusted_rand_score(labels, clusters):.2f}")

# %%
# On the left an image, then those that are most like it.

figure, axes = plt.subplots(len(asked), 5, figsize=(5.5, 1.35 * len(asked)), layout="constrained")
for row, indices in zip(axes, found[:, :5], strict=True):
    for column, (ax, i) in enumerate(zip(row, indices, strict=True)):
        ax.imshow(plt.imread(images[i]) if folder else images[i], cmap="gray")
        ax.set_title(f"{labels[i]}", fontsize=10, color="black" if labels[i] == labels[indices[0]] else "crimson")
        ax.set_xticks([])
        ax.set_yticks([])
        for spine in ax.spines.values():
            spine.set(linewidth=2.5 if column == 0 else 0, color="#0072b2")
figure.suptitle("The framed image, and the most similar ones")
figure.savefig("features_for_other_estimators.png", dpi=120)
print("neighbours drawn in features_for_other_estimators.png")
