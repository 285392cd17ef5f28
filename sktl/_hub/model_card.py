"""Write a model card in Markdown for a fitted estimator, with all text escaped."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple

from sktl._backbones.resolve_backbone import is_path
from sktl._estimators.estimator_summary import is_trained
from sktl._short_text import fitted, printable_line, shown_value, type_of
from sktl._version import library_versions
from sktl.exceptions import InvalidParameterError

_LISTED_CLASSES = 50
_LONGEST_NAME = 80
_FEW_IMAGES = 20


class _Task(NamedTuple):
    """What a model does.

    Attributes
    ----------
    name : str
        Name of the task.
    on_hub : bool
        Whether the hub has a task with this name.
    method : str
        The method that users call.
    outputs : str
        What the methods return.
    limits : tuple of str
        When not to rely on the outputs.
    """

    name: str
    on_hub: bool
    method: str
    outputs: str
    limits: tuple[str, ...] = ()


_CLASSES = _Task(
    "image-classification",
    True,
    "predict",
    "`predict` returns one class for each image, and `predict_proba` the probability of each class.",
    ("The model predicts one of its classes for every image, even if the image shows none of them.",),
)
_LABELS = _Task(
    "image-classification",
    True,
    "predict",
    "An image can have several labels, or none. `predict` returns a row for each image and a column for each label of "
    "the table below: 1 if the probability of the label is above 0.5, otherwise 0. `predict_proba` returns the "
    "probabilities, which do not add up to 1.",
    ("The model only knows its own labels, and predicts each label independently of the others.",),
)
_REGRESSION = "image-regression"
_FEATURES = _Task(
    "image-feature-extraction", True, "transform", "`transform` returns a row of features for each image."
)


def check_metrics(estimator: Any, metrics: Any) -> dict[str, float]:
    """Return metrics as plain numbers.

    Raises
    ------
    InvalidParameterError
        If the metrics are not names with finite numbers, or the estimator predicts nothing.
    """
    if metrics is None:
        return {}
    if not isinstance(metrics, Mapping):
        raise InvalidParameterError(f"metrics must be a dict of names and numbers, not {type_of(metrics)}.")
    if metrics and not is_trained(estimator):
        raise InvalidParameterError(
            "metrics are for classifiers and regressors: an encoder predicts nothing. Leave metrics=None."
        )
    for name, value in metrics.items():
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise InvalidParameterError(f"metrics has the key {shown_value(name)}: use a name, such as 'accuracy'.")
        if not isinstance(value, Real) or isinstance(value, bool) or not _is_finite(value):
            raise InvalidParameterError(f"metrics[{shown_value(name)}] is {shown_value(value)}: pass a finite number.")
    return {name: float(value) for name, value in metrics.items()}


def _is_finite(value: Real) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer or a fraction that no float can represent
        return False


def model_card(
    estimator: Any,
    title: str,
    load_call: str,
    *,
    metrics: Mapping[str, float],
    license: str | None,
    description: str | None,
    complete: bool,
) -> str:
    """Return the text of a README.md: YAML for the hub, then Markdown for people.

    Parameters
    ----------
    estimator : fitted estimator
    title : str
        Name of the model.
    load_call : str
        Python expression that loads the model.
    metrics : mapping of str to float
    license, description : str or None
    complete : bool
        Whether the model file contains the whole network.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    task = _task(estimator)
    results = [
        EvalResult(task.name, "unknown", "images chosen by the author", name, value) for name, value in metrics.items()
    ]
    data = ModelCardData(
        library_name="sktl", pipeline_tag=task.name if task.on_hub else None, tags=["sktl", task.name], license=license,
        model_name=printable_line(title), eval_results=results or None,
    )  # fmt: skip
    sections = [
        f"# {_plain(title)}",
        *_paragraphs(description or ""),
        *_use(load_call, task, complete, estimator.weights),
    ]
    if hasattr(estimator, "classes_"):
        sections += _classes(estimator)
    sections += [*_training(estimator), *_results(metrics, task), *_limits(estimator)]
    versions = ", ".join(f"{name} {number}" for name, number in library_versions().items())
    sections += ["## Versions", f"Saved with {versions}."]
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n"))


def _task(estimator: Any) -> _Task:
    if not is_trained(estimator):
        return _FEATURES
    if hasattr(estimator, "classes_"):
        return _LABELS if estimator.multilabel_ else _CLASSES
    return _numbers(estimator)


def _numbers(regressor: Any) -> _Task:
    if regressor._is_vector:
        outputs = "`predict` returns a number for each image, in the unit of the numbers that the model was trained on."
    else:
        row = f"a row of {regressor.n_outputs_} numbers" if regressor.n_outputs_ > 1 else "a row of one number"
        outputs = f"`predict` returns {row} for each image, in the units and the order of the training."
    limit = "The model returns numbers for every image, even for images that show something else."
    return _Task(_REGRESSION, False, "predict", outputs, (limit,))


def _plain(text: Any, longest: int | None = None) -> str:
    """Return text on one line, with all special characters of Markdown and HTML escaped."""
    line = printable_line(text) if longest is None else fitted(text, longest)
    line = re.sub(r"([\\`*_{}\[\]<>#|~&!$])", r"\\\1", line)
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)  # otherwise, it would start a list or underline a heading


def _paragraphs(text: str) -> list[str]:
    return [line for part in re.split(r"\n\s*\n", text) if (line := _plain(part))]


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"| {left} | {right} |" for left, right in [head, ("---", "---:"), *rows])


def _use(load_call: str, task: _Task, complete: bool, weights: Any) -> list[str]:
    where = "The file contains the whole network."
    if not complete and is_path(weights):
        load_call = f'{load_call[:-1]}, weights="PATH")'
        where = "The file contains only what training changed. Pass the path of the file with the pretrained weights."
    elif not complete:
        where = (
            "The file contains only what training changed. Loading downloads the pretrained weights and checks them."
        )
    return [
        "## Use",
        f'```python\nimport sktl\n\nestimator = {load_call}\nestimator.{task.method}(["photo.jpg"])\n```',
        task.outputs,
        "To install sktl, run `pip install '.[hub]'` in a clone of sktl's repository. Nothing in the model is "
        f"executed. {where}",
    ]


def _classes(estimator: Any) -> list[str]:
    rows = list(zip(estimator.classes_.tolist(), estimator.class_count_.tolist(), strict=True))
    listed = [(_plain(label, _LONGEST_NAME), str(count)) for label, count in rows[:_LISTED_CLASSES]]
    heading, name = ("Labels", "label") if estimator.multilabel_ else ("Classes", "class")
    sections = [f"## {heading}: {len(rows)}", _table((name, "training images"), listed)]
    if len(rows) > _LISTED_CLASSES:
        sections.append(f"and {len(rows) - _LISTED_CLASSES} more, all in `estimator.classes_`.")
    return sections


def _training(estimator: Any) -> list[str]:
    backbone = estimator.backbone_
    height, width = backbone.preprocessing.crop
    # Only the name of a local file: the rest of the path is private.
    weights = os.path.basename(backbone.weights)
    lines = [
        f"- network: {_plain(backbone.name)}{_part(backbone)}, weights: {_plain(weights)}",
        f"- input: {height} x {width} pixels, see `estimator.backbone_.preprocessing`",
    ]
    if is_trained(estimator):
        lines = [*_images(estimator), *lines]
        lines += [f"- trained: {_trained(estimator)}", f"- epochs or iterations: {estimator.n_iter_}"]
    else:
        lines.append("- trained: nothing; the model computes features of the pretrained network")
    return ["## Training", "\n".join(lines)]


def _part(backbone: Any) -> str:
    return "" if backbone.first_stages is None else f", the first stages up to {_plain(backbone.stages[-1].name)}"


def _images(estimator: Any) -> list[str]:
    """Return how many images were trained on, if this is known, and how many were left out."""
    left_out = len(estimator.invalid_images_)
    if _task(estimator) is not _CLASSES:
        return [f"- unusable images that were left out: {left_out}"] if left_out else []
    unusable = f"; {left_out} unusable ones were left out" if left_out else ""
    return [f"- images: {int(estimator.class_count_.sum())}{unusable}"]


def _trained(estimator: Any) -> str:
    recipe, stages = estimator.recipe_, estimator.backbone_.stages
    if not recipe.n_trainable:
        return "the output layer alone, on features of the frozen network"
    names = ", ".join(_plain(stage.name) for stage in stages[len(stages) - recipe.n_trainable :])
    return f"the output layer and {recipe.n_trainable} of {len(stages)} stages of the network: {names}"


def _results(metrics: Mapping[str, float], task: _Task) -> list[str]:
    if not metrics:
        measure = "error" if task.name == _REGRESSION else "accuracy"
        return [
            "## Results",
            f"The author reported none. Measure the {measure} on your own images before you rely on the model.",
        ]
    rows = [(_plain(name), f"{value:.6g}") for name, value in metrics.items()]
    return [
        "## Results",
        _table(("metric", "value"), rows),
        "The author reported these figures. sktl did not check them.",
    ]


def limits_of(estimator: Any) -> list[str]:
    """Return sentences about when not to rely on a fitted estimator; they contain no names of users."""
    lines = list(_task(estimator).limits)
    if lines:
        lines.append(
            "Results hold for images like the training images. Other cameras, places or people can change them."
        )
    if hasattr(estimator, "classes_") and (fewest := int(estimator.class_count_.min())) < _FEW_IMAGES:
        least = "rarest label" if estimator.multilabel_ else "smallest class"
        lines.append(f"The {least} had {fewest} training images, which are few to learn from.")
    return [
        *lines,
        "The pretrained weights have their own license, and the biases of the images that they were trained on.",
        "sktl has not checked the model for any use. If a mistake can do harm, check the model yourself.",
    ]


def _limits(estimator: Any) -> list[str]:
    return ["## Limits", "\n".join(f"- {line}" for line in limits_of(estimator))]
