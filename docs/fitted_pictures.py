"""The pictures of the site that show a fitted classifier, on drawn cats."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
_SIDE = 96


@functools.cache
def _cats() -> tuple[Any, Any]:
    """Return cats to train on, and others."""
    from sktl.datasets import make_cats

    return make_cats(90, random_state=0), make_cats(60, random_state=1)


@functools.cache
def _fitted(**parameters: Any) -> Any:
    from sktl import PretrainedImageClassifier

    train, _ = _cats()
    return PretrainedImageClassifier(image_size=_SIDE, random_state=0, **parameters).fit(train.data, train.target)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def draw_predictions(path: Path) -> None:
    """Draw what is said of cats that were not trained on."""
    _, test = _cats()
    clf, figure = _fitted(), _figure(7, 5.6)
    for ax, image, row in zip(figure.subplots(2, 3).flat, test.data, clf.predict_proba(test.data[:6]), strict=False):
        ax.imshow(image)
        ax.axis("off")
        ax.set_title(f"{clf.classes_[row.argmax()].replace('_', ' ')}\n{row.max():.0%}", fontsize=16)
    figure.savefig(path, dpi=110)


def draw_training_curve(path: Path) -> None:
    """Draw both phases of a training with early stopping."""
    from sktl import TrainingCurveDisplay

    figure = _figure(6, 3.6)
    clf = _fitted(trainable_stages=1, augmentation=None, max_epochs=4, early_stopping=True, validation_fraction=0.3)
    TrainingCurveDisplay.from_estimator(clf, ax=figure.subplots())
    figure.savefig(path, dpi=110)


def draw_wrong_predictions(path: Path) -> None:
    """Draw the mistakes on cats that were not trained on."""
    from sktl import PredictionsDisplay

    _, test = _cats()
    figure = _figure(7, 4.8)
    axes = figure.subplots(2, 3)
    PredictionsDisplay.from_estimator(_fitted(), test.data, test.target, select="losses", n_images=6, ax=axes)
    figure.savefig(path, dpi=110)


def draw_saliency(path: Path) -> None:
    """Draw where the network sees the predicted class."""
    from sktl import PretrainedImageClassifier, SaliencyDisplay

    train, test = _cats()
    clf = PretrainedImageClassifier(random_state=0).fit(train.data, train.target)  # not _SIDE: the map has 7 x 7 places
    figure = _figure(7, 2.4)
    SaliencyDisplay.from_estimator(clf, test.data[[0, 2, 4, 5]], ax=figure.subplots(1, 4))
    figure.savefig(path, dpi=110)


def draw_feature_map(path: Path) -> None:
    """Draw features in two dimensions, as thumbnails."""
    from sktl import FeatureMapDisplay

    _, test = _cats()
    figure = _figure(6.5, 5)
    FeatureMapDisplay.from_estimator(_fitted(), test.data, test.target, thumbnails=True, ax=figure.subplots())
    figure.savefig(path, dpi=110)


def draw_learning_rates(path: Path) -> None:
    """Draw the training loss with learning rates that are too small, right and too large."""
    figure = _figure(6, 3.4)
    ax = figure.subplots()
    for lr, color, style in ((0.0003, ORANGE, ":"), (0.03, BLUE, "-"), (1.0, GREEN, "--")):
        history = _fitted(lr=lr).history_
        ax.plot(range(1, len(history) + 1), history[:, "train_loss"], color=color, linestyle=style, label=f"lr={lr:g}")
    ax.set(xlabel="epoch", ylabel="training loss", yscale="log")
    ax.legend()
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def draw_augmentation(path: Path) -> None:
    """Draw what the named augmentations make of one cat."""
    import numpy as np
    from PIL import Image

    from sktl._images.augmentation import resolve_augmentation

    train, _ = _cats()
    image, seeds = Image.fromarray(train.data[4]), np.random.SeedSequence(0).spawn(6)
    preprocessing = _fitted().backbone_.preprocessing
    names = ("light", "trivial", "strong")
    figure = _figure(7, 3.8)
    for name, row in zip(names, figure.subplots(3, 6), strict=True):
        change = resolve_augmentation(name)
        for ax, seed in zip(row, seeds, strict=True):
            ax.imshow(change.pixels(image, preprocessing, seed))
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(f'"{name}"', fontsize=12)
    figure.savefig(path, dpi=110)


def draw_few_images(path: Path) -> None:
    """Draw the accuracy by the number of training images, over random draws."""
    import numpy as np

    from sktl import PretrainedImageClassifier

    train, test = _cats()
    per_class, rng = (1, 2, 5, 10, 15), np.random.default_rng(0)
    rows = {name: np.flatnonzero(train.target == name) for name in train.target_names}
    accuracy = np.empty((len(per_class), 8))
    for i, n in enumerate(per_class):
        for draw in range(accuracy.shape[1]):
            chosen = np.concatenate([rng.permutation(of_class)[:n] for of_class in rows.values()])
            clf = PretrainedImageClassifier(image_size=_SIDE, random_state=0)
            clf.fit(train.data[chosen], train.target[chosen])
            accuracy[i, draw] = 100 * clf.score(test.data, test.target)
    figure = _figure(6, 3.4)
    ax = figure.subplots()
    ax.fill_between(per_class, accuracy.min(axis=1), accuracy.max(axis=1), color=BLUE, alpha=0.15, label="range")
    ax.plot(per_class, accuracy.mean(axis=1), "o-", color=BLUE, label="mean of 8 draws")
    ax.set(xlabel="training images of each class", ylabel="accuracy in %", xticks=per_class)
    ax.legend(loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":  # the picture in the README, which is no page of the site
    draw_predictions(Path(__file__).parent / "_static" / "predictions.jpg")
