"""A fitted estimator to a document and tensors, and back: what is saved, how, and what cannot be saved."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from sktl._backbones.backbone import Backbone, rebuilt_backbone, resolve_backbone, state_shapes, tensors_digest
from sktl._fine_tuning.tail import restored_tail
from sktl._head.train_head import restored_head
from sktl._images.preprocessing import Preprocessing
from sktl._storage.model_file import NETWORK, DocumentError, ModelFile, Tensors, damaged
from sktl._training.json_values import decode, encode
from sktl._training.net_callbacks import History, kept_start
from sktl._training.recipe import Recipe, TailRecipe
from sktl._utils.random import generator
from sktl._utils.threads import single_threaded
from sktl._version import library_versions
from sktl.exceptions import InvalidParameterError, ModelFileError, WeightsNotFoundError

from .fitted_features import PretrainedFeatures, TunedFeatures

_WEIGHT, _BIAS, _PROBE = "output.weight", "output.bias", "probe.features"
# Larger than differences between machines, smaller than differences between networks.
_PROBE_TOLERANCE = 1e-3
_MOST_PIXELS = 2_048
_MOST_FEATURES = 2**20  # in one block
# Parameters of a machine, not of a model: a file from elsewhere must not choose folders or devices here.
OF_THE_MACHINE = frozenset({"device", "cache", "checkpoint", "n_jobs", "verbose"})


def to_document(estimator: Any, include_backbone: bool) -> tuple[dict[str, Any], Tensors]:
    """Return a document and tensors that describe a fitted estimator.

    Raises
    ------
    InvalidParameterError
        If a parameter is a function, a class or an instance, labels are of an unusual type, or `include_backbone` is
        not a bool.
    """
    if not isinstance(include_backbone, bool | np.bool_):
        raise InvalidParameterError(f"include_backbone is a {type(include_backbone).__name__}. Pass True or False.")
    parameters = estimator.get_params(deep=False)
    parameters = {name: value for name, value in parameters.items() if name not in OF_THE_MACHINE}
    _check_unchanged(estimator, include_backbone)
    _check_sizes(estimator.backbone_.preprocessing)
    document = {
        "estimator": type(estimator).__name__,
        "versions": library_versions(),
        "parameters": {name: encode(value, f"{name}={value!r}") for name, value in parameters.items()},
        "engine": estimator.engine_,
        "flattened": _encode_flattened(estimator),
    }
    pretrained = estimator.backbone_.build()
    network, _ = estimator._features.modules(estimator.backbone_)
    tensors: dict[str, torch.Tensor] = {}
    if hasattr(estimator, "net_"):
        layer = estimator.net_.module_.output
        tensors |= {_WEIGHT: layer.weight, _BIAS: layer.bias}
        document["classifier"] = _encode_classifier(estimator)
    document["features"] = {"stages": estimator.feature_stages_, "groups": estimator._features.groups}
    before, after = pretrained.state_dict(), network.state_dict()
    kept = [name for name in after if include_backbone or not torch.equal(before[name], after[name])]
    tensors |= {NETWORK + name: after[name] for name in kept}
    tensors[_PROBE] = _probe(network, estimator.backbone_.preprocessing)
    document["backbone"] = {
        "name": estimator.backbone_.name,
        "weights": estimator.backbone_.weights,
        "preprocessing": encode(estimator.backbone_.preprocessing, "preprocessing"),
        "image_size": None if estimator.image_size is None else int(estimator.image_size),
        "seed": estimator.backbone_._seed,
        "complete": bool(include_backbone),
        "sha256": tensors_digest(pretrained),
    }
    return document, tensors


def _check_unchanged(estimator: Any, include_backbone: bool) -> None:
    """Raise `InvalidParameterError` if a saved file would not restore the network of the fit."""
    backbone = estimator.backbone_
    if type(estimator).__module__.partition(".")[0] != __name__.partition(".")[0]:
        raise InvalidParameterError(
            f"{type(estimator).__name__} is a class of your own, which cannot be saved without its code. Use pickle."
        )
    if callable(estimator.backbone):  # `encode` raises an error that names this parameter
        return
    if backbone.restored:
        if not include_backbone:
            raise InvalidParameterError(
                "include_backbone=False is not possible for an estimator that was loaded with its network, because the "
                "weights before training are unknown. Leave include_backbone=True."
            )
        unchanged = estimator.backbone == backbone.name and estimator.image_size == backbone._image_size
    else:
        try:
            named = resolve_backbone(estimator.backbone, estimator.weights, estimator.image_size, backbone._seed)
            unchanged = named.identity == backbone.identity
        except WeightsNotFoundError:
            if not include_backbone:
                raise
            unchanged = True  # the file of weights is gone, but the estimator has its content
    if not unchanged:
        raise InvalidParameterError(
            "backbone, weights or image_size have changed since the fit. Set them back, or fit again."
        )


def _encode_flattened(estimator: Any) -> Any:
    names = getattr(estimator, "feature_names_in_", None)
    return {
        "n_features": getattr(estimator, "n_features_in_", None),
        "names": None if names is None else [str(name) for name in names],
    }


def _encode_classifier(estimator: Any) -> dict[str, Any]:
    classes = estimator.classes_
    rows = [{key: value for key, value in row.items() if key != "batches"} for row in estimator.history_]
    return {
        "classes": [encode(label, "a label of classes_") for label in classes],
        "dtype": classes.dtype.str,
        "class_count": estimator.class_count_.tolist(),
        "recipe": encode(estimator.recipe_, "recipe_"),
        "history": [encode(row, "history_") for row in rows],
        "n_iter": int(estimator.n_iter_),
        "invalid_images": [encode(failure, "invalid_images_") for failure in estimator.invalid_images_],
        "selection": {key: encode(column.tolist(), key) for key, column in _selection(estimator).items()},
    }


def _selection(estimator: Any) -> dict[str, np.ndarray]:
    return getattr(estimator, "selection_", {})


def _probe(network: torch.nn.Module, preprocessing: Preprocessing) -> torch.Tensor:
    """Return the features of one fixed image of noise."""
    image = torch.randn(1, 3, *preprocessing.crop, generator=generator(0))
    with single_threaded(), torch.inference_mode():
        return network.eval()(image).float().clone()


# ------------------------------------------------------------------------------------------------------------ restoring


def restore(estimator: Any, file: ModelFile) -> None:
    """Set the fitted attributes of an estimator, whose parameters are set, from a file.

    Raises
    ------
    ModelFileError
        If the file is damaged, or its network is unavailable on this machine.
    """
    document = file.document
    described = document["backbone"]
    complete = described["complete"]
    preprocessing = _decode_preprocessing(described["preprocessing"])
    backbone = _bare_backbone(estimator, described, preprocessing)
    if not complete and backbone.preprocessing != preprocessing:
        raise ModelFileError(
            f"The file was saved without the network, and backbone={backbone.name!r} prepares images differently "
            f"here: {backbone.preprocessing}, not {preprocessing}. Save it with include_backbone=True."
        )
    shapes = backbone.shapes() if complete else state_shapes(backbone.build())
    expected = {NETWORK + name: shapes[name] for name in (shapes if complete else file.names(NETWORK))}
    expected[_PROBE] = (file.shape(_PROBE), torch.float32)
    _restore_features(estimator, document.get("features"), file.shape(_PROBE)[1])
    n_features = sum(size for _, size in estimator._features.groups)
    if "classifier" in document:
        n_classes = len(document["classifier"]["classes"])
        expected |= {_WEIGHT: ((n_classes, n_features), torch.float64), _BIAS: ((n_classes,), torch.float64)}
    tensors = file.read(expected)
    network = backbone.build()
    if not complete and tensors_digest(network) != described["sha256"]:
        raise ModelFileError(
            f"The file was saved without the network, and the weights {described['weights']!r} of backbone="
            f"{backbone.name!r} on this machine differ from the weights that it was trained with. Save it with "
            "include_backbone=True, or install the same weights."
        )
    network.load_state_dict({name: tensors.get(NETWORK + name, old) for name, old in network.state_dict().items()})
    if complete:
        backbone = rebuilt_backbone(backbone, described["weights"], preprocessing, estimator.image_size, network)
    _check_probe(_probe(network, preprocessing), file, tensors[_PROBE])
    estimator.backbone_, estimator.engine_ = backbone, str(document["engine"])
    _restore_flattened(estimator, document["flattened"])
    if "classifier" in document:
        _restore_classifier(estimator, document["classifier"], network, tensors)


def _decode_preprocessing(described: Any) -> Preprocessing:
    found = decode(described)
    if not np.isfinite([*found.mean, *found.std]).all() or len(found.mean) != 3 or len(found.std) != 3:
        raise DocumentError("preprocessing has no mean and standard deviation of three channels")
    _check_sizes(found)
    return Preprocessing(found.resize, found.crop, str(found.interpolation), found.mean, found.std)


def _check_sizes(preprocessing: Preprocessing) -> None:
    """Raise `InvalidParameterError` for sizes so large that a malicious file could exhaust the memory with them."""
    resize = preprocessing.resize
    sizes = (*(resize if isinstance(resize, tuple) else (resize,)), *preprocessing.crop)
    if not all(isinstance(size, int) and 0 < size <= _MOST_PIXELS for size in sizes) or len(preprocessing.crop) != 2:
        raise InvalidParameterError(
            f"image_size: models for images of {sizes} pixels cannot be saved or loaded. Pass a size of at most "
            f"{_MOST_PIXELS}."
        )


def _bare_backbone(estimator: Any, described: Mapping[str, Any], preprocessing: Preprocessing) -> Backbone:
    """Return the backbone of this machine, with its weights, or with any weights if the file contains them."""
    name, image_size = described["name"], described["image_size"]
    if not isinstance(name, str) or name != estimator.backbone:
        raise DocumentError("the backbone differs from the parameter backbone")
    if not described["complete"]:
        return resolve_backbone(name, estimator.weights, image_size, described["seed"])
    height, width = preprocessing.crop
    if image_size is not None and (type(image_size) is not int or preprocessing.crop != (image_size, image_size)):
        raise DocumentError("the image size differs from the preprocessing")
    size = image_size or (height if height == width else None)
    return resolve_backbone(name, None, size, 0)


def _check_probe(found: torch.Tensor, file: ModelFile, expected: torch.Tensor) -> None:
    """Raise `ModelFileError` if the network computes other features here, which would silently change predictions."""
    difference = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if difference <= _PROBE_TOLERANCE:
        return
    here = library_versions()
    others = [f"{name} {number}" for name, number in file.document["versions"].items() if here.get(name) != number]
    if not others:
        raise damaged(file.name, "its network does not compute the recorded features")
    raise ModelFileError(
        f"The network of {file.name} computes other features here than where it was saved, by "
        f"{difference:.1e} of the largest. Install the versions it was saved with: {', '.join(others)}."
    )


def _restore_flattened(estimator: Any, flattened: Mapping[str, Any]) -> None:
    if flattened["n_features"] is not None:
        estimator.n_features_in_ = int(flattened["n_features"])
    if flattened["names"] is not None:
        estimator.feature_names_in_ = np.array(flattened["names"], dtype=object)


def _restore_features(estimator: Any, described: Mapping[str, Any] | None, n_features: int) -> None:
    """Restore the features of an estimator; files of versions before `feature_stages` do not describe them."""
    stages, groups = (1, [("", n_features)]) if described is None else (described["stages"], described["groups"])
    if type(stages) is not int or stages < 1 or not all(_is_group(*group) for group in groups):
        raise DocumentError("the description of its features is invalid")
    if groups[0][1] != n_features:
        raise DocumentError("its features do not match its network")
    estimator.feature_stages_ = stages
    estimator._features = PretrainedFeatures(stages, tuple((module, size) for module, size in groups))


def _is_group(module: Any, size: Any) -> bool:
    return isinstance(module, str) and type(size) is int and 0 < size < _MOST_FEATURES


def _restore_classifier(
    estimator: Any, described: Mapping[str, Any], network: torch.nn.Module, tensors: Tensors
) -> None:
    recipe = decode(described["recipe"])
    if not isinstance(recipe, Recipe):
        raise DocumentError("the recipe is invalid")
    history = History([decode(row) for row in described["history"]])
    if isinstance(recipe, TailRecipe):
        cut = estimator.backbone_.cut(recipe.n_trainable)
        cut.network.load_state_dict(network.state_dict())
        net = restored_tail(cut, estimator.backbone_.preprocessing, tensors[_WEIGHT], tensors[_BIAS], recipe)
        if not kept_start(history):
            digest, groups = tensors_digest(cut.network), estimator._features.groups
            estimator._features = TunedFeatures(cut, recipe.n_trainable, digest, groups)
    else:
        net = restored_head(tensors[_WEIGHT], tensors[_BIAS], recipe)
    net.history_ = history
    estimator.net_, estimator.recipe_, estimator.n_iter_ = net, recipe, int(described["n_iter"])
    estimator.classes_ = _decode_classes(described)
    estimator.class_count_ = _decode_class_count(described)
    estimator.invalid_images_ = tuple(decode(failure) for failure in described["invalid_images"])
    if selection := described.get("selection"):
        estimator.selection_ = {str(key): np.array(decode(column)) for key, column in selection.items()}


def _decode_classes(described: Mapping[str, Any]) -> np.ndarray:
    labels, dtype = described["classes"], described["dtype"]
    if not re.fullmatch(r"\|O|\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]U\d{1,9}", dtype):
        raise DocumentError(f"labels have dtype {dtype!r}")
    if not all(isinstance(label, str if dtype[1] in "OU" else int | float) for label in labels):
        raise DocumentError("labels do not match their dtype")
    if dtype[1] == "U" and int(dtype[2:]) != max(1, *map(len, labels)):
        raise DocumentError(f"labels have dtype {dtype!r}, which does not match their length")
    classes = np.array(labels, dtype=object if dtype == "|O" else None).astype(dtype)
    if len(np.unique(classes)) != len(labels) or classes.tolist() != sorted(labels):
        raise DocumentError("labels are not sorted")
    return classes


def _decode_class_count(described: Mapping[str, Any]) -> np.ndarray:
    counts = described["class_count"]
    if len(counts) != len(described["classes"]) or not all(type(n) is int and 0 < n < 2**62 for n in counts):
        raise DocumentError("the number of images of each class is invalid")
    return np.array(counts, dtype=np.int64)
