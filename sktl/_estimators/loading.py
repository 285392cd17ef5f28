"""`load`: turn a file that `save` wrote back into a fitted estimator, with every length, shape and type checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch

from sktl._backbones.backbone import Backbone, state_shapes, tensors_digest
from sktl._backbones.cut import Cut
from sktl._backbones.resolve_backbone import Weights, is_path, rebuilt_backbone, resolve_backbone
from sktl._backbones.taps import TappedCut
from sktl._backbones.weights import fill
from sktl._fine_tuning.tail_net import restored_tail
from sktl._head.train_head import restored_head
from sktl._images.preprocessing import Preprocessing
from sktl._short_text import one_line, shown_value
from sktl._storage.model_file import NETWORK, ModelFile, PathOrFile, SavedDocumentError, Tensors, damaged, open_model
from sktl._training.json_values import decode
from sktl._training.net_callbacks import kept_start
from sktl._training.recipe import TailRecipe
from sktl._typicality.typicality import Typicality, most_references
from sktl._utils.devices import resolve_device
from sktl._utils.settings_isolation import isolated
from sktl._version import library_versions
from sktl.exceptions import BackboneError, InvalidParameterError, ModelFileError, WeightsError

from . import loading_checks as values
from .classifier import PretrainedImageClassifier
from .encoder import PretrainedImageEncoder
from .fitted_features import PretrainedFeatures, TunedFeatures, other_blocks
from .regressor import PretrainedImageRegressor
from .saving import BIAS, OF_THE_MACHINE, PROBE, TRAINED, TYPICALITY, WEIGHT, check_layer_size, probe

# Larger than differences between machines, smaller than differences between networks.
_PROBE_TOLERANCE = 1e-3
_MOST_FEATURES = 2**24  # more than any network has; a stream could otherwise claim any number
_LONGEST_VERSIONS = 400
# Of a tensor, with its type.
_Shape: TypeAlias = tuple[tuple[int, ...], torch.dtype]
_ESTIMATORS = {
    cls.__name__: cls for cls in (PretrainedImageClassifier, PretrainedImageRegressor, PretrainedImageEncoder)
}


@isolated()
def load(
    path: PathOrFile | bytes, device: str | torch.device = "auto", weights: Weights = None
) -> PretrainedImageClassifier | PretrainedImageRegressor | PretrainedImageEncoder:
    """Load a fitted estimator from a file that its method `save` wrote.

    Nothing in the file is executed. The file contains numbers and JSON, whose lengths, shapes and types are all checked
    before they are used, and a checksum of its content. A file from a stranger can still be a bad model: it predicts
    what its author made it predict.

    Parameters
    ----------
    path : str, os.PathLike, binary file object or bytes
        The file, the folder that :func:`sktl.save_to_folder` wrote, or the content of the file. A file object is read
        with its method ``read(size)`` from its current position to the end of the model. It does not have to be
        seekable, and stays open.
    device : str or torch.device, default="auto"
        Where the network runs, independently of the device of the fit. It becomes the parameter `device`. The other
        parameters that depend on the machine, `cache`, `checkpoint`, `n_jobs` and `verbose`, have their defaults.
    weights : str, os.PathLike, member of a torchvision enumeration or None, default=None
        The weights of a network that is not in the file, because it was saved with ``include_backbone=False``. It
        becomes the parameter `weights`. None takes published weights by the name that the file states. A local file
        must be named here, because a file from a stranger could name any file of this machine.

    Returns
    -------
    estimator : PretrainedImageClassifier, PretrainedImageRegressor or PretrainedImageEncoder
        The fitted estimator. Its predictions equal the predictions of the saved estimator, bit for bit on the same
        machine with the same libraries. `history_` contains the epochs without their batches. `fit` starts from
        scratch, as usual.

    Raises
    ------
    InvalidParameterError
        If `path` is not a path, bytes, or a file that is open for binary reading.
    ModelFileNotFoundError
        If the file does not exist.
    ModelFileError
        If the file is damaged, is not a saved model, or has an unknown format; if the file object raises an error (the
        `__cause__`); if this version of sktl does not know its parameters or its network; if it was saved with
        ``include_backbone=False`` and the weights on this machine are unavailable, differ, or must be passed as
        `weights`; if `weights` are passed although it contains the network; or if the network as built by the installed
        libraries computes different features.
    MissingPackageError
        If the library of the network is not installed.
    DeviceError
        If the device is unavailable.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np, sktl
    >>> X = np.random.default_rng(0).random((8, 8, 8))
    >>> clf = sktl.PretrainedImageClassifier(random_state=0).fit(X, ["a", "b"] * 4)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf.save(os.path.join(folder, "model.sktl"))
    ...     loaded = sktl.load(os.path.join(folder, "model.sktl"))
    >>> bool((loaded.predict_proba(X) == clf.predict_proba(X)).all())
    True
    """
    found = resolve_device(device)
    with open_model(path) as file:
        kind = _ESTIMATORS[file.document["estimator"]]
        parameters = {name: decode(value) for name, value in file.document["parameters"].items()}
        if forbidden := parameters.keys() & OF_THE_MACHINE:
            raise SavedDocumentError(f"it sets {', '.join(sorted(forbidden))}")
        estimator = kind(**_with_weights(parameters, weights, file), device=device)
        estimator._check_parameters()
        with estimator._draft() as draft:
            draft.device_ = found
            _restore(draft, file)
    return estimator


def _with_weights(parameters: dict[str, Any], weights: Weights, file: ModelFile) -> dict[str, Any]:
    """Return the parameters in a file with the weights that the caller has named.

    A path in the file is never opened: errors about it would tell the author of the file what is on this machine.
    """
    complete, named = file.document["backbone"]["complete"], parameters.get("weights")
    if weights is None and (complete or not is_path(named)):
        return parameters
    if complete:
        raise WeightsError(f"it contains the network, so weights={shown_value(weights)} is not used: leave it out")
    if weights is None:
        raise WeightsError(
            f"it was saved without the network, and names the local file of weights {shown_value(named)}. If you trust "
            "it, pass its path as `weights`, or save the model with include_backbone=True."
        )
    return parameters | {"weights": weights}


def _restore(estimator: Any, file: ModelFile) -> None:
    """Set the fitted attributes of an estimator, whose parameters are set, from a file.

    Raises
    ------
    ModelFileError
        If the file is damaged, or its network is unavailable on this machine.
    """
    document = file.document
    described = document["backbone"]
    complete, weights = described["complete"], values.name_of(described["weights"], "name of weights")
    preprocessing = values.preprocessing_of(described["preprocessing"])
    backbone = _bare_backbone(estimator, described, preprocessing)
    _restore_features(estimator, document.get("features"), file.shape(PROBE)[-1])
    trained = values.outputs_of(document)
    tensors = file.read(_network_shapes(file, backbone) | _output_shapes(file, estimator._features, trained))
    network = backbone.build()
    if not complete and tensors_digest(network) != described["sha256"]:
        raise ModelFileError(
            f"The file was saved without the network, and the weights {shown_value(weights)} of backbone="
            f"{backbone.name!r} on this machine differ from the weights that it was trained with. Save it with "
            "include_backbone=True, or install the same weights."
        )
    fill(network, {name: tensors.get(NETWORK + name, old) for name, old in network.state_dict().items()})
    if complete:
        backbone = rebuilt_backbone(backbone, weights, preprocessing, estimator.image_size, network)
    _check_probe(probe(network, preprocessing), file, tensors[PROBE])
    estimator.backbone_ = backbone
    estimator.engine_ = values.name_of(document["engine"], "engine", ("torch", "openvino"))
    # Files in float32 do not name their precision.
    estimator.precision_ = values.name_of(document.get("precision", "float32"), "precision", ("float32", "bfloat16"))
    _restore_columns(estimator, document["flattened"])
    if trained:
        _restore_training(estimator, trained[TRAINED], network, tensors)
        _restore_outputs(estimator, trained)
        _check_loss(estimator, trained)
        estimator._typicality = _restored_typicality(tensors)


def _bare_backbone(estimator: Any, described: Mapping[str, Any], preprocessing: Preprocessing) -> Backbone:
    """Return the backbone of this machine, with its weights, or with any weights if the file contains them."""
    name, image_size = described["name"], described["image_size"]
    if not isinstance(name, str) or name != estimator.backbone:
        raise SavedDocumentError("the backbone differs from the parameter backbone")
    n_stages = "all" if (first := described.get("n_stages")) is None else first
    if n_stages != "all" and (type(n_stages) is not int or n_stages < 1):
        raise SavedDocumentError("the number of its stages is invalid")
    if not described["complete"]:
        backbone = _first(resolve_backbone(name, estimator.weights, image_size, described["seed"]), n_stages)
        if backbone.preprocessing != preprocessing:
            raise ModelFileError(
                f"The file was saved without the network, and backbone={name!r} prepares images differently here: "
                f"{backbone.preprocessing}, not {preprocessing}. Save it with include_backbone=True."
            )
        return backbone
    height, width = preprocessing.crop
    if image_size is not None and (type(image_size) is not int or preprocessing.crop != (image_size, image_size)):
        raise SavedDocumentError("the image size differs from the preprocessing")
    size = image_size or (height if height == width else None)
    return _first(resolve_backbone(name, None, size, 0), n_stages)


def _first(backbone: Backbone, n_stages: int | str) -> Backbone:
    """Return the first stages of a network, which may have other stages here than where the file was saved."""
    try:
        return backbone.first(n_stages)
    except (BackboneError, InvalidParameterError) as error:
        raise ModelFileError(str(other_blocks(backbone))) from error


def _network_shapes(file: ModelFile, backbone: Backbone) -> dict[str, _Shape]:
    """Return the shapes of the tensors of the network in a file: of all, or of those that training changed."""
    complete = file.document["backbone"]["complete"]
    shapes = backbone.shapes() if complete else state_shapes(backbone.build())
    of_network = {NETWORK + name: shapes[name] for name in (shapes if complete else file.names(NETWORK))}
    return of_network | {PROBE: ((1, file.shape(PROBE)[-1]), torch.float32)}


def _output_shapes(file: ModelFile, features: PretrainedFeatures, trained: Mapping[str, Any]) -> dict[str, _Shape]:
    """Return the shapes of the output layer and the references of typicality; an encoder has none."""
    if not trained:
        return {}
    n_outputs, n_features = values.count_outputs(trained), sum(size for _, size in features.groups)
    check_layer_size(n_outputs, n_features)
    layer = {WEIGHT: ((n_outputs, n_features), torch.float64), BIAS: ((n_outputs,), torch.float64)}
    return layer | _typicality_shapes(file, features.groups[0][1], 0 if "numbers" in trained else n_outputs)


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
        f"{difference:.1e} of the largest. Install the versions it was saved with: "
        f"{one_line(', '.join(others), _LONGEST_VERSIONS)}."
    )


def _restore_columns(estimator: Any, flattened: Mapping[str, Any]) -> None:
    n_features, names = values.columns_of(flattened)
    # Earlier versions did not set it for images that are not flattened.
    estimator.n_features_in_ = 1 if n_features is None else n_features
    if names is not None:
        estimator.feature_names_in_ = names


def _restore_features(estimator: Any, described: Mapping[str, Any] | None, n_features: int) -> None:
    """Restore the features of an estimator; files of versions before `feature_stages` do not describe them."""
    stages, groups = (1, [("", n_features)]) if described is None else (described["stages"], described["groups"])
    if type(stages) is not int or stages < 1 or not all(_is_group(*group) for group in groups):
        raise SavedDocumentError("the description of its features is invalid")
    if groups[0][1] != n_features or sum(size for _, size in groups) >= _MOST_FEATURES:
        raise SavedDocumentError("its features do not match its network")
    estimator.feature_stages_ = stages
    estimator._features = PretrainedFeatures(stages, tuple((module, size) for module, size in groups))


def _is_group(module: Any, size: Any) -> bool:
    return isinstance(module, str) and type(size) is int and size > 0


def _typicality_shapes(file: ModelFile, n_features: int, n_columns: int) -> dict[str, _Shape]:
    """Return the shapes of the references of typicality; estimators with trained stages and old files have none."""
    if not (names := file.names(TYPICALITY)):
        return {}
    (n_references,) = file.shape(f"{TYPICALITY}folds")
    widths = {"directions": n_features, "memberships": n_columns}
    if "textures" in names:
        _, widths["textures"] = file.shape(f"{TYPICALITY}textures")
    if n_references > most_references(sum(widths.values())) or sum(widths.values()) > 2 * _MOST_FEATURES:
        raise SavedDocumentError("its references of typicality are too many")
    types = {"memberships": torch.uint8}
    expected = {name: ((n_references, width), types.get(name, torch.int8)) for name, width in widths.items()}
    return {TYPICALITY + name: kind for name, kind in (expected | {"folds": ((n_references,), torch.uint8)}).items()}


def _restored_typicality(tensors: Tensors) -> Typicality | None:
    arrays = {name: t.numpy() for name, t in tensors.items() if name.startswith(TYPICALITY)}
    if not arrays:
        return None
    named = {name.removeprefix(TYPICALITY): array for name, array in arrays.items()}
    without = {"textures": np.empty((len(named["folds"]), 0), np.int8)}  # saved before textures were compared
    found = Typicality(**without | named)
    if not found.is_valid:
        raise SavedDocumentError("its references of typicality are invalid")
    return found


def _restore_outputs(estimator: Any, trained: Mapping[str, Any]) -> None:
    if ("numbers" in trained) != hasattr(estimator, "loss"):
        raise SavedDocumentError("its outputs do not belong to this estimator")
    if "numbers" in trained:
        estimator.n_outputs_ = trained["numbers"]["n_outputs"]
        estimator._is_vector = trained["numbers"]["is_vector"]
        if (names := trained["numbers"].get("names")) is not None:
            estimator.output_names_ = values.names_of(names, estimator.n_outputs_)
        return
    described = trained["classes"]
    estimator.classes_, estimator.class_count_ = values.classes_of(described), values.counts_of(described)
    estimator.multilabel_ = described["multilabel"]
    if estimator.multilabel_:  # earlier versions had the numbers of columns as integers, which scorers take for classes
        estimator.classes_ = estimator.classes_.astype(object)


def _check_loss(estimator: Any, trained: Mapping[str, Any]) -> None:
    """Raise `SavedDocumentError` if the recipe trains other outputs. Parameters may have changed since the fit."""
    if "numbers" in trained:
        losses = {"squared_error", "huber"}
    else:
        losses = {"binary_cross_entropy" if estimator.multilabel_ else "cross_entropy"}
    if estimator.recipe_.loss not in losses:
        raise SavedDocumentError("its loss does not belong to its outputs")


def _restore_training(estimator: Any, described: Mapping[str, Any], network: torch.nn.Module, tensors: Tensors) -> None:
    recipe, history = values.recipe_of(described), values.history_of(described)
    if not all(bool(tensors[name].isfinite().all()) for name in (WEIGHT, BIAS)):
        raise SavedDocumentError("its output layer is not finite")
    if isinstance(recipe, TailRecipe):
        cut = _cut(estimator, recipe)
        fill(cut.network, network.state_dict())
        net = restored_tail(cut, estimator.backbone_.preprocessing, tensors[WEIGHT], tensors[BIAS], recipe)
        if not kept_start(history):
            digest, pretrained = tensors_digest(cut.network), estimator._features
            estimator._features = TunedFeatures(cut, recipe.n_trainable, digest, pretrained.n_stages, pretrained.groups)
    else:
        net = restored_head(tensors[WEIGHT], tensors[BIAS], recipe)
    net.history_ = history
    estimator.net_, estimator.recipe_, estimator.n_iter_ = net, recipe, values.n_iter_of(described)
    estimator.invalid_images_ = values.failures_of(described)
    if selection := values.selection_of(described):
        estimator.selection_ = selection


def _cut(estimator: Any, recipe: TailRecipe) -> Cut:
    """Return the network, cut in front of the trained stages, with the features that the file describes."""
    features = estimator._features
    if not recipe.feature_stages == features.n_stages <= recipe.n_trainable:
        raise SavedDocumentError("the recipe does not match its features")
    backbone = estimator.backbone_
    try:
        cut = backbone.cut(recipe.n_trainable, features.n_stages)
    except BackboneError as error:
        raise ModelFileError(str(other_blocks(backbone))) from error
    if isinstance(cut, TappedCut) and cut.groups != features.groups:
        raise ModelFileError(str(other_blocks(backbone)))
    return cut
