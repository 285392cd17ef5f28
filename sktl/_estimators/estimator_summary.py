"""Summarize a fitted estimator for people: one line, and a table for scikit-learn's diagram."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sktl._backbones.taps import DEVIATION
from sktl._short_text import count, first_few, fitted

_LONGEST_NAME = 40


class Fact(NamedTuple):
    """A fact about a fitted estimator.

    Attributes
    ----------
    name, value : str
        Text for people.
    attribute : str
        The attributes of the estimator that contain it.
    """

    name: str
    value: str
    attribute: str


def is_fitted(estimator: Any) -> bool:
    """Return True if an estimator is fitted."""
    return "backbone_" in vars(estimator)


def caption_of(estimator: Any) -> str | None:
    """Return one line that describes a fitted estimator, or None."""
    if not is_fitted(estimator):
        return None
    parts = [_network(estimator.backbone_)]
    if is_trained(estimator):
        parts += [*_outputs(estimator), _trained(estimator)]
    return ", ".join(parts)


def is_trained(estimator: Any) -> bool:
    """Return True if a fitted estimator has an output layer."""
    return "net_" in vars(estimator)


def _outputs(predictor: Any) -> list[str]:
    """Return how many classes and images, labels or numbers there are."""
    if not hasattr(predictor, "classes_"):
        return [count(predictor.n_outputs_, "number")]
    if predictor.multilabel_:
        return [count(len(predictor.classes_), "label")]
    return [count(len(predictor.classes_), "class", "classes"), count(predictor.class_count_.sum())]


def facts_of(estimator: Any) -> Iterator[Fact]:
    """Yield the facts of an estimator. They build no network and compute nothing."""
    if not is_fitted(estimator):
        return
    backbone = estimator.backbone_
    height, width = backbone.preprocessing.crop
    yield Fact("Network", _network(backbone), "backbone_")
    # Only the name of a local file: a notebook may be shared, and the rest of the path is private.
    yield Fact("Weights", fitted(os.path.basename(backbone.weights), _LONGEST_NAME), "backbone_.weights")
    yield Fact("Input", f"{height} x {width} pixels", "backbone_.preprocessing")
    yield _device(estimator)
    yield Fact("Features", _features(estimator), "feature_stages_")
    if is_trained(estimator):
        yield from _facts_of_training(estimator)


def _device(estimator: Any) -> Fact:
    where = f"{estimator.device_}, by {estimator.engine_}"
    if estimator.precision_ == "float32":
        return Fact("Device", where, "device_, engine_")
    return Fact("Device", f"{where} in {estimator.precision_}", "device_, engine_, precision_")


def _features(estimator: Any) -> str:
    n_stages, (_, *groups) = estimator.feature_stages_, estimator._features.groups
    n_blocks = len({name.removesuffix(DEVIATION) for name, _ in groups})
    of_blocks = f", of the output and of {n_blocks} blocks in {n_stages} stages" if n_stages > 1 else ""
    return f"{estimator._n_features_out}{of_blocks}"


def _facts_of_training(predictor: Any) -> Iterator[Fact]:
    left_out = len(predictor.invalid_images_)
    yield Fact("Trained", _trained(predictor), "recipe_")
    yield _penalty(predictor)
    yield from _facts_of_outputs(predictor)
    if left_out:
        yield Fact("Images left out", str(left_out), "invalid_images_")
    if predictor.recipe_.optimizer == "lbfgs":
        yield Fact("Iterations", str(predictor.n_iter_), "n_iter_")
    else:
        yield Fact("Epochs", _epochs(predictor), "n_iter_, history_")
    rows = _last_phase(predictor)
    if rows and "train_loss" in rows[-1]:
        yield Fact("Last loss", f"{rows[-1]['train_loss']:.4g}", "history_")
    if validated := [row for row in rows if "valid_loss" in row]:
        best = min(validated, key=lambda row: row["valid_loss"])
        yield Fact("Validation loss", f"{best['valid_loss']:.4g} in epoch {best['epoch']}, the best", "history_")


def _penalty(predictor: Any) -> Fact:
    penalty, selection = f"{predictor.recipe_.weight_decay:g}", getattr(predictor, "selection_", None)
    if selection is None or len(np.unique(selection["param_weight_decay"])) == 1:  # only features were chosen
        return Fact("Penalty", penalty, "recipe_")
    means = [values for name, values in selection.items() if name.startswith("mean_")]
    is_scored = np.isfinite(means).any()
    how = "chosen by cross-validation" if is_scored else "a default, because no held-out image could be scored"
    if (temperature := predictor.recipe_.temperature) != 1:
        penalty += f" at temperature {temperature:g}"
    return Fact("Penalty", f"{penalty}, {how}", "recipe_, selection_")


def _facts_of_outputs(predictor: Any) -> Iterator[Fact]:
    if not hasattr(predictor, "classes_"):
        yield Fact("Numbers", str(predictor.n_outputs_), "n_outputs_")
        return
    yield Fact("Labels" if predictor.multilabel_ else "Classes", _classes(predictor), "classes_, class_count_")
    if not predictor.multilabel_:  # the counts of several labels do not add up to the number of images
        yield Fact("Images", str(predictor.class_count_.sum()), "class_count_")


def _network(backbone: Any) -> str:
    n_stages = backbone.first_stages
    part = "" if n_stages is None else f", first {n_stages} stages" if n_stages > 1 else ", first stage"
    return fitted(backbone.name, _LONGEST_NAME) + part


def _trained(classifier: Any) -> str:
    recipe = classifier.recipe_
    if not recipe.n_trainable:
        return "output layer"
    if n_stages := classifier.backbone_.n_stages:
        return f"output layer and {recipe.n_trainable} of {n_stages} stages"
    return f"output layer and {count(recipe.n_trainable, 'stage')}"


def _classes(classifier: Any) -> str:
    counts = [*zip(classifier.classes_.tolist(), classifier.class_count_.tolist(), strict=True)]
    return f"{len(counts)}: {first_few(counts, lambda pair: f'{fitted(pair[0], _LONGEST_NAME)} ({pair[1]})')}"


def _last_phase(classifier: Any) -> list[Any]:
    """Return the epochs of the last phase of training."""
    history = classifier.history_
    return [row for row in history if row.get("phase") == history[-1].get("phase")]


def _epochs(classifier: Any) -> str:
    # With early stopping, the start of the phase has a row of its own, without a training loss.
    n_last = sum("train_loss" in row for row in _last_phase(classifier))
    n_before = classifier.n_iter_ - n_last
    return f"{n_last} of the stages, after {n_before} of the output layer" if n_before else str(n_last)


class SummaryTable:
    """Facts as a table for scikit-learn's diagram of a fitted estimator."""

    def __init__(self, facts: Iterable[Fact]):
        self.facts = list(facts)

    def __len__(self) -> int:
        return len(self.facts)

    def _repr_html_inner(self) -> str:
        rows = "\n".join(
            f"<tr><td>{html.escape(fact.name)}</td><td>{html.escape(fact.value)}</td>"
            f"<td>{html.escape(fact.attribute)}</td></tr>"
            for fact in self.facts
        )
        return f"<details open><summary>Fitted</summary><table><tbody>\n{rows}\n</tbody></table></details>"
