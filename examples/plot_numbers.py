"""
Predict a number: how much of a surface is dark?
================================================

Some questions have a number as an answer: how ripe, how old, how much of a surface is damaged? This example predicts
the dark share of surfaces, measures the error, and shows what a regressor cannot do: predict numbers beyond the range
that it was trained on::

    python examples/plot_numbers.py [TABLE COLUMN]

TABLE is a CSV file with one line per image. The first column contains file names, relative to the folder of TABLE, and
COLUMN is the name of the column of numbers. Without them, the example draws surfaces.
"""

import csv
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import KFold, cross_val_predict

from sktl import PretrainedImageRegressor

# %%
# The drawn surfaces differ in brightness and texture, so the number does not follow from the mean gray value alone.


def draw(rng, size=96):
    """Draw a gray surface with dark patches. Return its pixels and the dark share in percent."""
    mask = Image.new("L", (size, size))
    pen = ImageDraw.Draw(mask)
    for x, y, wide, high in rng.uniform((0, 0, 3, 3), (size, size, 16, 16), (rng.integers(0, 16), 4)):
        pen.ellipse([x - wide, y - high, x + wide, y + high], fill=255)
    is_dark = np.asarray(mask) > 0
    grain = np.repeat(rng.normal(0, rng.uniform(4, 14), (size, size // 8)), 8, axis=1)
    gray = rng.uniform(110, 220) * np.where(is_dark, rng.uniform(0.5, 0.8), 1) + grain + rng.normal(0, 6, (size, size))
    return np.clip(gray, 0, 255).astype(np.uint8), 100 * is_dark.mean()


if sys.argv[2:]:
    with open(sys.argv[1], newline="") as file:
        lines = list(csv.DictReader(file))
    images = [str(Path(sys.argv[1]).parent / next(iter(line.values()))) for line in lines]
    name, numbers = sys.argv[2], np.array([float(line[sys.argv[2]]) for line in lines])
else:
    print("No table is named: these surfaces are synthetic, and errors on them say nothing about real ones.")
    rng = np.random.default_rng(0)
    images, numbers = zip(*(draw(rng) for _ in range(300)), strict=True)
    name, numbers = "dark share (%)", np.array(numbers)
print(f"{len(images)} images, numbers from {numbers.min():.3g} to {numbers.max():.3g}, mean {numbers.mean():.3g}")

# %%
# Predict each image with a regressor that was not trained on it. The regressor standardizes the numbers itself. Compare
# its error with the error of always predicting the mean.

reg = PretrainedImageRegressor(image_size=None if sys.argv[2:] else 96, random_state=0)
predicted = cross_val_predict(reg, list(images), numbers, cv=KFold(5, shuffle=True, random_state=0))
error = mean_absolute_error(numbers, predicted)
print(f"mean absolute error {error:.3g}, R² {r2_score(numbers, predicted):.3f}")
print(f"mean absolute error of always predicting the mean: {np.abs(numbers - numbers.mean()).mean():.3g}")

# %%
# Now train only on the smaller numbers, and predict the larger ones. Most predictions are too small, so collect images
# over the whole range in which you want to predict.

limit = (numbers.min() + numbers.max()) / 2
is_small = numbers < limit
reg.fit([images[i] for i in np.flatnonzero(is_small)], numbers[is_small])
beyond = reg.predict([images[i] for i in np.flatnonzero(~is_small)])
error = mean_absolute_error(numbers[~is_small], beyond)
print(f"trained on numbers below {limit:.3g} only: mean absolute error on the others {error:.3g}")

# %%
# Plot predictions against true numbers, and show the images with the largest errors: their numbers may be wrong, or
# they may differ from all other images.

figure = plt.figure(figsize=(7.5, 7.8), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1, 1.2])
axes = above.subplots(1, 2, sharex=True, sharey=True)
axes[0].plot(numbers, predicted, ".", color="#0072b2", alpha=0.5)
axes[0].set_title("Trained on the whole range")
axes[1].axvspan(numbers.min(), limit, color="#dddddd", label="range of the training images")
axes[1].plot(numbers[~is_small], beyond, ".", color="#d55e00", alpha=0.7)
axes[1].set_title("Trained on small numbers only")
axes[1].legend(loc="upper left")
for ax in axes:
    ax.plot([numbers.min(), numbers.max()], [numbers.min(), numbers.max()], color="grey", linewidth=1)
    ax.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    ax.grid(alpha=0.3)
for ax, i in zip(below.subplots(2, 3).flat, np.argsort(-np.abs(predicted - numbers)), strict=False):
    ax.axis("off")
    ax.imshow(Image.open(images[i]) if isinstance(images[i], str) else images[i], cmap="gray", vmin=0, vmax=255)
    ax.set_title(f"true {numbers[i]:.3g}, predicted {predicted[i]:.3g}", fontsize=9)
figure.savefig("numbers.png", dpi=120)
print("predictions drawn in numbers.png")
