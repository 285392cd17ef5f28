"""Convert a document and tensors back to a fitted estimator, with every length, shape and type checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import torch

from sktl._backbones.backbone import Backbone, state_shapes, tensors_digest
from sktl._backbones.cut import Cut
from sktl._backbones.resolve_backbone import rebuilt_backbone, resolve_backbone
from sktl._backbones.taps import TappedCut
from sktl._fine_tuning.tail import restored_tail
from sktl._head.train_head import restored_head
from sktl._images.preprocessing import Preprocessing
from sktl._storage.model_file import NETWORK, DocumentError, ModelFile, Tensors, damaged
from sktl._training.json_values import decode
from sktl._training.net_callbacks import History, kept_start
from sktl._training.recipe import Recipe, TailRecipe
from sktl._typicality.typicality import Typicality
from sktl._version import library_versions
from sktl.exceptions import BackboneError, InvalidParameterError, ModelFileError

from .fitted_features import PretrainedFeatures, TunedFeatures, other_blocks
from .saving import BIAS, PROBE, TRAINED, TYPICALITY, WEIGHT, check_sizes, probe

# Larger than differences between machines, smaller than differences between networks.
_PROBE_TOLERANCE = 1e-3
_MOST_FEATURES = 2**20  # in one block
_MOST_BYTES = 64 << 20  # of all labels
_BYTES_PER_CHARACTER = 4


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
    expected[PROBE] = (file.shape(PROBE), torch.float32)
    _restore_features(estimator, document.get("features"), file.shape(PROBE)[1])
    n_features = sum(size for _, size in estimator._features.groups)
    if trained := _in_this_form(document):
        n_outputs = _count_outputs(trained)
        expected |= {WEIGHT: ((n_outputs, n_features), torch.float64), BIAS: ((n_outputs,), torch.float64)}
        expected |= _typicality_shapes(file, estimator._features.groups[0][1], 0 if "numbers" in trained else n_outputs)
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
    _check_probe(probe(network, preprocessing), file, tensors[PROBE])
    estimator.backbone_, estimator.engine_ = backbone, str(document["engine"])
    estimator.precision_ = _precision(document)
    _restore_flattened(estimator, document["flattened"])
    if trained:
        _restore_training(estimator, trained[TRAINED], network, tensors)
        _restore_outputs(estimator, trained)
        _check_loss(estimator, trained)
        estimator._typicality = _restored_typicality(tensors)


def _precision(document: Mapping[str, Any]) -> str:
    """Return the precision of the features; files in float32 do not name it."""
    found = document.get("precision", "float32")
    if found not in ("float32", "bfloat16"):
        raise DocumentError(f"its precision is {found!r}")
    return str(found)


def _decode_preprocessing(described: Any) -> Preprocessing:
    found = decode(described)
    if not np.isfinite([*found.mean, *found.std]).all() or len(found.mean) != 3 or len(found.std) != 3:
        raise DocumentError("preprocessing has no mean and standard deviation of three channels")
    check_sizes(found)
    return Preprocessing(found.resize, found.crop, str(found.interpolation), found.mean, found.std)


def _bare_backbone(estimator: Any, described: Mapping[str, Any], preprocessing: Preprocessing) -> Backbone:
    """Return the backbone of this machine, with its weights, or with any weights if the file contains them."""
    name, image_size = described["name"], described["image_size"]
    if not isinstance(name, str) or name != estimator.backbone:
        raise DocumentError("the backbone differs from the parameter backbone")
    n_stages = "all" if (first := described.get("n_stages")) is None else first
    if n_stages != "all" and (type(n_stages) is not int or n_stages < 1):
        raise DocumentError("the number of its stages is invalid")
    if not described["complete"]:
        return _first(resolve_backbone(name, estimator.weights, image_size, described["seed"]), n_stages)
    height, width = preprocessing.crop
    if image_size is not None and (type(image_size) is not int or preprocessing.crop != (image_size, image_size)):
        raise DocumentError("the image size differs from the preprocessing")
    size = image_size or (height if height == width else None)
    return _first(resolve_backbone(name, None, size, 0), n_stages)


def _first(backbone: Backbone, n_stages: int | str) -> Backbone:
    """Return the first stages of a network, which may have other stages here than where the file was saved."""
    try:
        return backbone.first(n_stages)
    except (BackboneError, InvalidParameterError) as error:
        raise ModelFileError(str(other_blocks(backbone))) from error


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


def _in_this_form(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document says about training and outputs. Earlier versions, without regressors, said it in one."""
    if old := document.get("classifier"):
        classes = {"labels": old["classes"], "dtype": old["dtype"], "counts": old["class_count"], "multilabel": False}
        return {TRAINED: old, "classes": classes}
    return {key: document[key] for key in (TRAINED, "classes", "numbers") if key in document}


def _count_outputs(trained: Mapping[str, Any]) -> int:
    if ("classes" in trained) == ("numbers" in trained):
        raise DocumentError("it does not say whether its outputs are classes or numbers")
    if "classes" in trained:
        return len(trained["classes"]["labels"])
    n_outputs, is_vector = trained["numbers"]["n_outputs"], trained["numbers"]["is_vector"]
    if type(n_outputs) is not int or n_outputs < 1 or type(is_vector) is not bool or (is_vector and n_outputs > 1):
        raise DocumentError("the number of its outputs is invalid")
    return n_outputs


def _typicality_shapes(
    file: ModelFile, n_features: int, n_columns: int
) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return the shapes of the references of typicality; estimators with trained stages and old files have none."""
    if not (names := file.names(TYPICALITY)):
        return {}
    textures = f"{TYPICALITY}textures"
    n_references = file.shape(f"{TYPICALITY}folds")[0]
    return {
        f"{TYPICALITY}directions": ((n_references, n_features), torch.int8),
        f"{TYPICALITY}memberships": ((n_references, n_columns), torch.uint8),
        f"{TYPICALITY}folds": ((n_references,), torch.uint8),
        **({textures: ((n_references, prod(file.shape(textures)[1:])), torch.int8)} if "textures" in names else {}),
    }


def _restored_typicality(tensors: Tensors) -> Typicality | None:
    arrays = {name: t.numpy() for name, t in tensors.items() if name.startswith(TYPICALITY)}
    if not arrays:
        return None
    named = {name.removeprefix(TYPICALITY): array for name, array in arrays.items()}
    without = {"textures": np.empty((len(named["folds"]), 0), np.int8)}  # saved before textures were compared
    found = Typicality(**without | named)
    if not found.is_valid:
        raise DocumentError("its references of typicality are invalid")
    return found


def _restore_outputs(estimator: Any, trained: Mapping[str, Any]) -> None:
    if ("numbers" in trained) != hasattr(estimator, "loss"):
        raise DocumentError("its outputs do not belong to this estimator")
    if "numbers" in trained:
        estimator.n_outputs_ = trained["numbers"]["n_outputs"]
        estimator._is_vector = trained["numbers"]["is_vector"]
        _restore_names(estimator, trained["numbers"].get("names"))
        return
    described = trained["classes"]
    if type(described["multilabel"]) is not bool:
        raise DocumentError("it does not say whether an image has one label")
    estimator.multilabel_ = described["multilabel"]
    estimator.classes_ = _decode_labels(described) if estimator.multilabel_ else _decode_classes(described)
    estimator.class_count_ = _decode_counts(described)


def _check_loss(estimator: Any, trained: Mapping[str, Any]) -> None:
    """Raise `DocumentError` if the recipe trains other outputs. Parameters may have changed since the fit."""
    if "numbers" in trained:
        losses = {"squared_error", "huber"}
    else:
        losses = {"binary_cross_entropy" if estimator.multilabel_ else "cross_entropy"}
    if estimator.recipe_.loss not in losses:
        raise DocumentError("its loss does not belong to its outputs")


def _restore_names(estimator: Any, names: Any) -> None:
    """Set the names of numbers, if the file has any."""
    if names is None:
        return
    if not isinstance(names, list) or len(names) != estimator.n_outputs_:
        raise DocumentError("it does not have one name for each number")
    if not all(isinstance(name, str) for name in names):
        raise DocumentError("the names of its numbers are invalid")
    estimator.output_names_ = np.array(names, dtype=object)


def _restore_training(estimator: Any, described: Mapping[str, Any], network: torch.nn.Module, tensors: Tensors) -> None:
    recipe = decode(described["recipe"])
    if not isinstance(recipe, Recipe):
        raise DocumentError("the recipe is invalid")
    history = History([decode(row) for row in described["history"]])
    if isinstance(recipe, TailRecipe):
        cut = _cut(estimator, recipe)
        cut.network.load_state_dict(network.state_dict())
        net = restored_tail(cut, estimator.backbone_.preprocessing, tensors[WEIGHT], tensors[BIAS], recipe)
        if not kept_start(history):
            digest, pretrained = tensors_digest(cut.network), estimator._features
            estimator._features = TunedFeatures(cut, recipe.n_trainable, digest, pretrained.n_stages, pretrained.groups)
    else:
        net = restored_head(tensors[WEIGHT], tensors[BIAS], recipe)
    net.history_ = history
    estimator.net_, estimator.recipe_, estimator.n_iter_ = net, recipe, int(described["n_iter"])
    estimator.invalid_images_ = tuple(decode(failure) for failure in described["invalid_images"])
    if selection := described.get("selection"):
        estimator.selection_ = {str(key): np.array(decode(column)) for key, column in selection.items()}


def _cut(estimator: Any, recipe: TailRecipe) -> Cut:
    """Return the network, cut in front of the trained stages, with the features that the file describes."""
    features = estimator._features
    if not recipe.feature_stages == features.n_stages <= recipe.n_trainable:
        raise DocumentError("the recipe does not match its features")
    backbone = estimator.backbone_
    try:
        cut = backbone.cut(recipe.n_trainable, features.n_stages)
    except BackboneError as error:
        raise ModelFileError(str(other_blocks(backbone))) from error
    if isinstance(cut, TappedCut) and cut.groups != features.groups:
        raise ModelFileError(str(other_blocks(backbone)))
    return cut


def _decode_classes(described: Mapping[str, Any]) -> np.ndarray:
    classes = _decode_labels(described)
    if classes.tolist() != sorted(described["labels"]):
        raise DocumentError("labels are not sorted")
    return classes


def _decode_labels(described: Mapping[str, Any]) -> np.ndarray:
    labels, dtype = described["labels"], described["dtype"]
    if not re.fullmatch(r"\|O|\|b1|[<>|][iu][1248]|[<>]f[248]|[<>]U\d{1,9}", dtype):
        raise DocumentError(f"labels have dtype {dtype!r}")
    types = {"U": str, "O": str | int | float}.get(dtype[1], int | float)
    if not all(isinstance(label, types) for label in labels):
        raise DocumentError("labels do not match their dtype")
    # Wider than the longest label if the labels of the fit were. A small file could claim a width that takes gigabytes.
    width = int(dtype[2:]) if dtype[1] == "U" else 0
    if width and (width < max(1, *map(len, labels)) or len(labels) * width * _BYTES_PER_CHARACTER > _MOST_BYTES):
        raise DocumentError(f"labels have dtype {dtype!r}, which does not match their length")
    classes = np.array(labels, dtype=object if dtype == "|O" else None).astype(dtype)
    if len(set(classes.tolist())) != len(labels):
        raise DocumentError("labels are not different")
    return classes


def _decode_counts(described: Mapping[str, Any]) -> np.ndarray:
    counts, least = described["counts"], 0 if described["multilabel"] else 1
    if len(counts) != len(described["labels"]) or not all(type(n) is int and least <= n < 2**62 for n in counts):
        raise DocumentError("the number of images of each class is invalid")
    return np.array(counts, dtype=np.int64)
