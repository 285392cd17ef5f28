"""Convert a fitted estimator to a document and tensors: what is saved, how, and what cannot be saved."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sktl._backbones.backbone import tensors_digest
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._images.preprocessing import MOST_PIXELS, Preprocessing
from sktl._short_text import shown_value, type_of
from sktl._storage.model_file import NETWORK, Tensors
from sktl._training.json_values import encode, plain
from sktl._utils.random import generator
from sktl._utils.threads import single_threaded
from sktl._version import library_versions
from sktl.exceptions import InvalidParameterError, WeightsNotFoundError

TRAINED = "training"
WEIGHT, BIAS, PROBE = "output.weight", "output.bias", "probe.features"
TYPICALITY = "typicality."
_MOST_LABEL_BYTES = 64 << 20
_MOST_WEIGHTS = 1 << 30  # of the output layer; a stream could otherwise claim any number
# Parameters of a machine, not of a model: a file from elsewhere must not choose folders or devices here.
OF_THE_MACHINE = frozenset({"device", "cache", "checkpoint", "n_jobs", "verbose"})

# Parameters that versions before them do not know, with their defaults, which are not written.
_LATER = {"precision": "float32", "invalid_images": "raise"}


def to_document(estimator: Any, include_backbone: bool, include_references: bool) -> tuple[dict[str, Any], Tensors]:
    """Return a document and tensors that describe a fitted estimator.

    Raises
    ------
    InvalidParameterError
        If a parameter is a function, a class or an instance, labels are of an unusual type, or what to include is not
        a bool.
    """
    for name, value in (("include_backbone", include_backbone), ("include_references", include_references)):
        if not isinstance(value, bool | np.bool_):
            raise InvalidParameterError(f"{name} is {type_of(value)}. Pass True or False.")
    _check_unchanged(estimator, include_backbone)
    check_sizes(estimator.backbone_.preprocessing)
    document = {
        "estimator": type(estimator).__name__,
        "versions": library_versions(),
        "parameters": _kept_parameters(estimator),
        "engine": estimator.engine_,
        "flattened": _encode_flattened(estimator),
    }
    if estimator.precision_ != "float32":
        document["precision"] = estimator.precision_
    tensors: dict[str, torch.Tensor] = {}
    if hasattr(estimator, "net_"):
        layer = estimator.net_.module_.output
        check_layer_size(*layer.weight.shape)
        tensors |= {WEIGHT: layer.weight, BIAS: layer.bias}
        tensors |= _typicality_tensors(estimator) if include_references else {}
        document |= {TRAINED: _encode_training(estimator), **_encode_outputs(estimator)}
    document["features"] = {"stages": estimator.feature_stages_, "groups": estimator._features.groups}
    document["backbone"], of_network = _network(estimator, include_backbone)
    return document, {**tensors, **of_network}


def _kept_parameters(estimator: Any) -> dict[str, Any]:
    """Return the parameters of a model, encoded."""
    parameters = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if name not in OF_THE_MACHINE and not (name in _LATER and value == _LATER[name])
    }
    return {name: encode(value, f"{name}={shown_value(value)}") for name, value in parameters.items()}


def _network(estimator: Any, include_backbone: bool) -> tuple[dict[str, Any], Tensors]:
    """Return the description of the network, and its tensors: all, or those that training changed."""
    backbone = estimator.backbone_
    pretrained, (network, _) = backbone.build(), estimator._features.modules(backbone)
    before, after = pretrained.state_dict(), network.state_dict()
    kept = [name for name in after if include_backbone or not torch.equal(before[name], after[name])]
    described = {
        "name": backbone.name,
        "weights": backbone.weights,
        "preprocessing": encode(backbone.preprocessing, "preprocessing"),
        "image_size": None if estimator.image_size is None else int(estimator.image_size),
        "n_stages": backbone.first_stages,
        "seed": backbone._seed,
        "complete": bool(include_backbone),
        "sha256": tensors_digest(pretrained),
    }
    return described, {NETWORK + name: after[name] for name in kept} | {PROBE: probe(network, backbone.preprocessing)}


def _check_unchanged(estimator: Any, include_backbone: bool) -> None:
    """Raise `InvalidParameterError` if a saved file would not restore the network of the fit."""
    backbone = estimator.backbone_
    if type(estimator).__module__.partition(".")[0] != __name__.partition(".")[0]:
        raise InvalidParameterError(
            f"{type(estimator).__name__} is a class of your own, which cannot be saved without its code. Use pickle."
        )
    if callable(estimator.backbone):  # `encode` raises an error that names this parameter
        return
    if backbone.restored and not include_backbone:
        raise InvalidParameterError(
            "include_backbone=False is not possible for an estimator that was loaded with its network, because the "
            "weights before training are unknown. Leave include_backbone=True."
        )
    if not _names_fitted_network(estimator, include_backbone):
        raise InvalidParameterError(
            "backbone, weights, image_size or n_stages have changed since the fit. Set them back, or fit again."
        )


def _names_fitted_network(estimator: Any, include_backbone: bool) -> bool:
    """Return True if the parameters still name the network of the fit."""
    backbone, n_stages = estimator.backbone_, estimator.n_stages
    if backbone.restored:
        is_same = (estimator.backbone, estimator.image_size) == (backbone.name, backbone._image_size)
        return is_same and n_stages in (backbone.first_stages or "all", len(backbone.stages))
    try:
        parameters = (estimator.backbone, estimator.weights, estimator.image_size)
        named = resolve_backbone(*parameters, backbone._seed, plain(n_stages))
        return named.identity == backbone.identity
    except WeightsNotFoundError:
        if not include_backbone:
            raise
        return True  # the file of weights is gone, but the estimator has its content


def _encode_flattened(estimator: Any) -> Any:
    return {
        "n_features": getattr(estimator, "n_features_in_", None),
        "names": _names(estimator, "feature_names_in_"),
    }


def _names(estimator: Any, attribute: str) -> list[str] | None:
    names = getattr(estimator, attribute, None)
    return None if names is None else [_text(str(name), f"a name of {attribute}") for name in names]


def _encode_outputs(estimator: Any) -> dict[str, Any]:
    """Return what the outputs mean."""
    if not hasattr(estimator, "classes_"):
        numbers = {"n_outputs": int(estimator.n_outputs_), "is_vector": bool(estimator._is_vector)}
        return {"numbers": numbers | {"names": _names(estimator, "output_names_")}}
    classes = estimator.classes_
    check_labels_size(len(classes), classes.dtype)
    return {
        "classes": {
            "labels": [_encode_label(label) for label in classes.tolist()],
            "dtype": classes.dtype.str,
            "counts": estimator.class_count_.tolist(),
            "multilabel": bool(estimator.multilabel_),
        }
    }


def _encode_label(label: Any) -> Any:
    if not isinstance(label, str | int | float) or label != label:
        raise InvalidParameterError(
            f"{shown_value(label)} in classes_ is {type_of(label)}, which cannot be saved. Fit with columns of y "
            "that are named by strings, or pickle the estimator."
        )
    return encode(_text(label, "a label of classes_"), "a label of classes_")


def _text(value: Any, what: str) -> Any:
    if not is_text(value):
        raise InvalidParameterError(f"{shown_value(value)} is {what}, but not valid Unicode. Rename it, and fit again.")
    return value


def _encode_training(estimator: Any) -> dict[str, Any]:
    rows = [{key: value for key, value in row.items() if key != "batches"} for row in estimator.history_]
    return {
        "recipe": encode(estimator.recipe_, "recipe_"),
        "history": [encode(row, "history_") for row in rows],
        "n_iter": int(estimator.n_iter_),
        "invalid_images": [encode(failure, "invalid_images_") for failure in estimator.invalid_images_],
        "selection": {key: encode(column.tolist(), key) for key, column in _selection(estimator).items()},
    }


def _typicality_tensors(estimator: Any) -> Tensors:
    """Return the references of typicality, if the estimator has them."""
    found = getattr(estimator, "_typicality", None)
    return {} if found is None else {TYPICALITY + name: torch.from_numpy(a) for name, a in found.arrays().items()}


def _selection(estimator: Any) -> dict[str, np.ndarray]:
    return getattr(estimator, "selection_", {})


def probe(network: torch.nn.Module, preprocessing: Preprocessing) -> torch.Tensor:
    """Return the features of one fixed image of noise."""
    image = torch.randn(1, 3, *preprocessing.crop, generator=generator(0))
    with single_threaded(), torch.inference_mode():
        return network.eval()(image).float().clone()


def check_sizes(preprocessing: Preprocessing) -> None:
    """Raise `InvalidParameterError` for sizes in pixels that are refused in files of models."""
    resize = preprocessing.resize
    sizes = (*(resize if isinstance(resize, tuple) else (resize,)), *preprocessing.crop)
    if max(sizes) > MOST_PIXELS:
        raise InvalidParameterError(
            f"image_size: models for images of {sizes} pixels cannot be saved or loaded. Pass a size of at most "
            f"{MOST_PIXELS}."
        )


def check_labels_size(n_labels: int, dtype: np.dtype) -> None:
    """Raise `InvalidParameterError` for labels that need much memory. A small file could claim any width for them."""
    if n_labels * dtype.itemsize > _MOST_LABEL_BYTES:
        raise InvalidParameterError(
            f"classes_ has {n_labels:,} labels of dtype {dtype.str}, which take {n_labels * dtype.itemsize:,} bytes. "
            f"Models with more than {_MOST_LABEL_BYTES:,} cannot be saved or loaded. Fit with y.astype(object)."
        )


def is_text(value: object) -> bool:
    """Return False for a string that cannot be written: with half of a character that takes two.

    Bytes of file names that are not UTF-8 can be written.
    """
    try:
        return not isinstance(value, str) or value.encode("utf-8", "surrogateescape") is not None
    except UnicodeEncodeError:
        return False


def check_layer_size(n_outputs: int, n_features: int) -> None:
    """Raise `InvalidParameterError` for an output layer that is too large to be saved."""
    if n_outputs * n_features > _MOST_WEIGHTS:
        raise InvalidParameterError(
            f"An output layer with {n_outputs:,} outputs and {n_features:,} features cannot be saved or loaded. Reduce "
            "the number of outputs, or feature_stages."
        )
