"""
Grid search over trained stages and learning rate
=================================================

Search over the number of trained stages and the learning rate together, on images that come with scikit-learn, or on
your own folder with one subfolder per class::

    python examples/plot_grid_search.py [FOLDER]

One grid of learning rates works for any number of stages: ``lr`` is the rate of the output layer, and the rates of the
stages are a fixed share of it. If no stage is trained, each image passes through the network once for the whole search.
"""

import os
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sktl import PretrainedImageClassifier
from sktl.datasets import load_image_folder

# %%
# Use a few images of each class: enough to see the effect, and few enough to search in a minute or two on two cores.

PER_CLASS = 12
folder = next(iter(sys.argv[1:]), os.environ.get("SKTL_DATA"))
if folder:
    photos = load_image_folder(folder)
    images, labels = photos.data, photos.target
else:
    digits = load_digits()
    images, labels = digits.images / 16, digits.target
rng = np.random.default_rng(0)
rows = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:PER_CLASS] for label in np.unique(labels)])
images, labels = [images[i] for i in rows], labels[rows]
print(f"{len(images)} images of {len(np.unique(labels))} classes")

# %%
# Small images make the search fast; ``image_size=None`` is the size for which the network was trained. Mirrored
# handwritten digits mean something else, so augmentation is turned off; leave ``augmentation`` at its default for
# photos.

clf = PretrainedImageClassifier(
    image_size=128 if folder else 64, augmentation="auto" if folder else None, max_epochs=6, random_state=0
)
print("stages, from input to output:", ", ".join(stage.name for stage in clf.fit(images, labels).backbone_.stages))

grid = {"trainable_stages": [0, 1, "all"], "lr": [0.003, 0.01, 0.03, 0.1]}
search = GridSearchCV(clf, grid, cv=StratifiedKFold(2, shuffle=True, random_state=0))
started = time.perf_counter()
search.fit(images, labels)
n_fits = 2 * len(search.cv_results_["params"]) + 1
print(f"{n_fits} fits in {time.perf_counter() - started:.0f} s")
print(f"best: {search.best_params_}, accuracy {search.best_score_:.1%}")

# %%
# Plot a heat map of the accuracy over the folds, with a row for each number of stages and a column for each learning
# rate.

scores = search.cv_results_["mean_test_score"]
accuracy = np.array([
    [
        scores[search.cv_results_["params"].index({"lr": lr, "trainable_stages": stages})]
        for lr in grid["lr"]
    ]
    for stages in grid["trainable_stages"]
])  # fmt: skip
figure, ax = plt.subplots(figsize=(5.5, 4.2), layout="constrained")
drawn = ax.imshow(100 * accuracy, cmap="cividis", aspect="auto")
ax.set_xticks(range(len(grid["lr"])), [f"{lr:g}" for lr in grid["lr"]])
ax.set_yticks(range(len(grid["trainable_stages"])), [str(stages) for stages in grid["trainable_stages"]])
ax.set_xlabel("lr, learning rate of the output layer")
ax.set_ylabel("trainable_stages")
middle = 100 * (accuracy.min() + accuracy.max()) / 2
for row, values in enumerate(100 * accuracy):
    for column, value in enumerate(values):
        best = value == 100 * accuracy.max()
        ax.text(
            column, row, f"{value:.1f}", ha="center", va="center", color="black" if value > middle else "white",
            fontweight="bold" if best else "normal",
        )  # fmt: skip
figure.colorbar(drawn, label="cross-validated accuracy (%)")
ax.set_title(f"{n_fits - 1} fits on {len(images)} images")
figure.savefig("grid_search.png", dpi=120)
print("heat map drawn in grid_search.png")
