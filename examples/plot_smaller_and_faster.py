"""
Find the smallest model within one point
========================================

The best model of a search is often large and slow, while another candidate is almost as accurate at a fraction of the
time. This example searches over the number of stages that the network keeps and over the size of its input, and refits
the fastest candidate whose accuracy is within one point of the best, on synthetic surfaces, or on your own folder with
one subfolder per class::

    python examples/plot_smaller_and_faster.py [FOLDER]
"""

import io
import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.datasets import load_image_folder

# %%
# The synthetic surfaces differ in texture: grain, stripes, a grid, or spots. Earlier stages of a network represent
# texture, so a small model may do.


def draw(kind, rng, size=96):
    """Draw one surface."""
    x, y = np.meshgrid(np.arange(size), np.arange(size))
    period, angle, phase = rng.uniform(7, 14), rng.uniform(0, np.pi), rng.uniform(0, 7)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
    other = np.sin(2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period)
    pattern = {"grain": np.zeros_like(wave), "grid": wave + other, "spots": 2 * wave * other, "stripes": 2 * wave}[kind]
    gray = rng.uniform(90, 160) + rng.uniform(4, 10) * pattern + rng.normal(0, 14, (size, size))
    return np.clip(gray, 0, 255).astype(np.uint8)


if sys.argv[1:]:
    photos = load_image_folder(sys.argv[1])
    images, labels = photos.data, photos.target
else:
    print("No folder is named: these surfaces are synthetic, and figures for them say nothing about real ones.")
    rng = np.random.default_rng(0)
    labels = np.repeat(["grain", "grid", "spots", "stripes"], 30)
    images = [draw(kind, rng) for kind in labels]
print(f"{len(images)} images of {len(np.unique(labels))} classes")

# %%
# Measure the time of each candidate first. ``mean_score_time`` of a search does not include it, because features are
# cached. Use the shortest of a few runs, in case the machine is busy.

grid = {"n_stages": [3, 4, 5, "all"], "image_size": [96, 160, 224] if sys.argv[1:] else [64, 96, 128]}


def milliseconds(n_stages, image_size):
    """Return the time that the network takes per image."""
    encoder = PretrainedImageEncoder(n_stages=n_stages, image_size=image_size, cache=False).fit(images[:16])
    runs = []
    for _ in range(4):
        started = time.perf_counter()
        encoder.transform(images[:16])
        runs.append((time.perf_counter() - started) / 16)
    return 1000 * min(runs)


cost = {(n, size): milliseconds(n, size) for n in grid["n_stages"] for size in grid["image_size"]}

# %%
# ``refit`` of :class:`~sklearn.model_selection.GridSearchCV` may be a function that selects a candidate: here, the
# fastest one within one point of the best.


def costs(results):
    """Return the time of each candidate of a search."""
    return np.array([cost[params["n_stages"], params["image_size"]] for params in results["params"]])


def fastest_within_one_point(results):
    """Return the index of the selected candidate."""
    scores = results["mean_test_score"]
    return int(np.argmin(np.where(scores >= scores.max() - 0.01, costs(results), np.inf)))


clf = PretrainedImageClassifier(random_state=0)
folds = StratifiedKFold(3, shuffle=True, random_state=0)
search = GridSearchCV(clf, grid, cv=folds, refit=fastest_within_one_point).fit(images, labels)
results = search.cv_results_
best = int(np.argmax(results["mean_test_score"]))
for name, i in (("most accurate", best), ("selected", search.best_index_)):
    clf.set_params(**results["params"][i]).fit(images, labels).save(file := io.BytesIO())
    print(
        f"{name}: {results['params'][i]}, accuracy {results['mean_test_score'][i]:.1%}, "
        f"{costs(results)[i]:.1f} ms per image, file of {len(file.getvalue()) / 1e6:.2f} MB"
    )

# %%
# Plot the trade-off. Candidates to the lower right of another candidate are slower and less accurate.

figure, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
for n_stages, color in zip(grid["n_stages"], ["#999999", "#e69f00", "#0072b2", "#000000"], strict=True):
    rows = [i for i, params in enumerate(results["params"]) if params["n_stages"] == n_stages]
    x, y = costs(results)[rows], 100 * results["mean_test_score"][rows]
    ax.plot(x, y, "o-", color=color, linewidth=1, label=f"n_stages={n_stages!r}")
    for row, left, up in zip(rows, x, y, strict=True):
        ax.annotate(f" {results['params'][row]['image_size']}", (left, up), fontsize=8, va="top")
chosen = search.best_index_
ax.plot(costs(results)[chosen], 100 * results["mean_test_score"][chosen], "o", color="none", markeredgecolor="#d55e00",
        markersize=14, markeredgewidth=2, label="selected")  # fmt: skip
ax.axhspan(100 * results["mean_test_score"].max() - 1, 100 * results["mean_test_score"].max(), color="#eeeeee")
ax.set(xscale="log", xlabel="milliseconds per image", ylabel="cross-validated accuracy (%)")
ax.xaxis.set_major_formatter("{x:g}")
ax.xaxis.set_minor_formatter("{x:g}")
ax.set_title("Numbers beside the points are image sizes")
ax.legend(loc="lower right")
figure.savefig("smaller_and_faster.png", dpi=120)
print("trade-off drawn in smaller_and_faster.png")
