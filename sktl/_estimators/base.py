"""What all estimators share: parameters, converting `X` to samples, and computing features of samples."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cached_property
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from sktl._backbones.backbone import Backbone
from sktl._backbones.resolve_backbone import BackboneName, Weights, check_weights, resolve_backbone
from sktl._features.extractor import FeatureExtractor
from sktl._features.feature_files import ImageFeatures
from sktl._images.format_readers import READERS
from sktl._images.image_reader import ImageReader
from sktl._images.input_containers import EMPTY, check_image_shape, is_flattened
from sktl._images.samples import Sample, as_samples
from sktl._short_text import shortened, shown_value
from sktl._storage.cache import check_cache, open_cache
from sktl._storage.model_file import PathOrFile, write_model
from sktl._training.json_values import plain
from sktl._utils.devices import check_precision, nearest_device, resolve_device
from sktl._utils.paths import check_model_suffix
from sktl._utils.settings_isolation import isolated
from sktl._utils.sklearn_compat import (
    CallbackSupport,
    Interval,
    Options,
    SklearnParameterError,
    StrOptions,
    validate_parameter_constraints,
    visual_block,
)
from sktl.exceptions import InvalidInputError, InvalidParameterError

from .estimator_summary import SummaryTable, caption_of, facts_of
from .fitted_features import PretrainedFeatures, TunedFeatures
from .saving import to_document

if TYPE_CHECKING:
    from sktl._deployment.export_report import ExportReport


class PretrainedImageBase(CallbackSupport, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base class of estimators that compute features of images with a pretrained network."""

    backbone: BackboneName
    weights: Weights
    image_size: int | None
    n_stages: int | str
    image_shape: Sequence[int] | None
    image_reader: ImageReader | None
    device: str | torch.device
    engine: str
    precision: str
    cache: str | os.PathLike[str] | Literal[False]
    n_jobs: int | None
    random_state: int | np.random.RandomState | None
    verbose: int
    backbone_: Backbone
    device_: torch.device
    engine_: str
    precision_: str
    feature_stages_: int
    n_features_in_: int
    _features: PretrainedFeatures | TunedFeatures

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, callable],
        "weights": [str, os.PathLike, Enum, None],
        "image_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_stages": [Interval(Integral, 1, None, closed="left"), StrOptions({"all"})],
        "image_shape": ["array-like", None],
        "image_reader": [StrOptions(set(READERS)), callable, None],
        "device": [str, torch.device],
        "engine": [StrOptions({"auto", "torch", "openvino"})],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "cache": [str, os.PathLike, Options(bool, {False})],
        "n_jobs": [Interval(Integral, None, -1, closed="right"), Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters of the estimator.

        Parameters
        ----------
        deep : bool, default=True
            Not used: no parameter is an estimator, and transforms of torchvision, which `augmentation` may be, have an
            unrelated method `get_params`.

        Returns
        -------
        params : dict
            Values of the parameters by name.
        """
        params: dict[str, Any] = super().get_params(deep=False)
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters of the estimator.

        Parameters
        ----------
        **params : dict
            Values of the parameters by name.

        Returns
        -------
        self : PretrainedImageBase
            The estimator.

        Raises
        ------
        InvalidParameterError
            If a name such as `optimizer__momentum` means a parameter of a parameter; `net_params` takes such names.
        ValueError
            If a parameter does not exist.
        """
        own = self.get_params()
        for name, value in params.items():
            outer, nested, _ = name.partition("__")
            if nested and outer in own:
                raise InvalidParameterError(_not_nested(name, value, type(self).__name__, "net_params" in own))
        return super().set_params(**params)

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy. scikit-learn would take values that have a method `get_params` for estimators."""
        values = {name: value for name, value in self.get_params().items() if hasattr(value, "get_params")}
        bare = copy.copy(self)
        for name in values:
            setattr(bare, name, None)
        made: Self = super(PretrainedImageBase, bare).__sklearn_clone__()
        for name, value in values.items():
            setattr(made, name, copy.deepcopy(value))
        self._check_copied(made)
        return made

    def _check_copied(self, made: Self) -> None:
        """Raise `InvalidParameterError` if a copy lacks a parameter that the constructor of a subclass hides."""
        base: Any = next(kind for kind in type(self).__mro__ if kind.__module__.partition(".")[0] == "sktl")
        for name in sorted({*base._get_param_names()} - self.get_params().keys()):
            value, copied = vars(self).get(name), vars(made).get(name)
            if value is not copied and shown_value(value) != shown_value(copied):
                raise InvalidParameterError(
                    f"{name}={shown_value(value)} would be lost in a copy of {type(self).__name__}, as searches make, "
                    "because get_params lists only the parameters that __init__ names. Name it in __init__, or return "
                    "it from _get_param_names."
                )

    def _check_parameters(self) -> None:
        """Raise `InvalidParameterError` if a parameter has an invalid value."""
        check_weights(self.weights)
        try:
            parameters = {name: plain(value) for name, value in self.get_params(deep=False).items()}
            validate_parameter_constraints(self._parameter_constraints, parameters, type(self).__name__)
        except SklearnParameterError as error:
            wanted, _, got = str(error).partition(" Got ")
            got = got.removesuffix(" instead.")
            raise InvalidParameterError(f"{wanted} Got {shortened(got)} instead." if got else wanted) from None
        for name, value in parameters.items():  # Python takes True for 1, and so do constraints on numbers
            if value is True and any(isinstance(kind, Interval) for kind in self._parameter_constraints[name]):
                raise InvalidParameterError(f"{name}=True is not a number. Pass {name}=1 if you mean 1.")
        check_cache(plain(self.cache))
        check_image_shape(self.image_shape)

    def _draw_seeds(self, n: int) -> list[int]:
        """Draw seeds from `random_state`; None draws them from the system, not from NumPy's global state."""
        rng = self.random_state
        if not isinstance(rng, np.random.RandomState):
            rng = np.random.RandomState(rng)
        return [int(seed) for seed in rng.randint(2**31 - 1, size=n)]

    @contextmanager
    def _draft(self) -> Iterator[Self]:
        """Yield a copy without the attributes of the last fit; take over its attributes if the block succeeds.

        Fitting changes only the draft, so that an error or Ctrl-C leaves the previous fit intact. Attributes that a
        subclass set before it called `fit` are in the draft and are kept.
        """
        draft = copy.copy(self)
        cached = {name for name in vars(draft) if isinstance(getattr(type(self), name, None), cached_property)}
        for name in draft.__dict__.pop("_fitted_names", frozenset()) | cached:
            draft.__dict__.pop(name, None)
        before = vars(draft).copy()
        yield draft
        fitted = {name for name, value in vars(draft).items() if name not in before or before[name] is not value}
        self.__dict__ = vars(draft) | {"_fitted_names": frozenset(fitted)}

    def _as_samples(self, X: Any, *, reset: bool, lenient: bool = False) -> list[Sample]:
        """Return the samples of `X`; set or check the number and the names of its columns."""
        if self._has_columns(X, reset):
            try:
                validate_data(self, X, reset=reset, skip_check_array=True)
            except (ValueError, TypeError) as error:
                raise InvalidInputError(str(error)) from error
        return as_samples(X, self.image_shape, lenient, plain(self.image_reader))

    def _has_columns(self, X: Any, reset: bool) -> bool:
        """Return True if `X` has columns that `fit` remembers, or that can be compared with those of `fit`.

        These are the columns of flattened images, and the single column of a data frame, which is compared only if
        `fit` was passed one as well: `predict` accepts images in other formats than `fit`.
        """
        had_many = getattr(self, "n_features_in_", 1) > 1
        if self.image_shape is not None and is_flattened(X):
            return reset or had_many
        is_column = hasattr(X, "columns") and getattr(X, "shape", ())[1:] == (1,)
        return is_column and (reset or (hasattr(self, "feature_names_in_") and not had_many))

    def _inputs(self, X: Any, *, reset: bool, lenient: bool = False) -> Sequence[Sample]:
        """Return the samples of `X`, or `X` itself if it holds stored features, which extractors take as samples."""
        if reset and not hasattr(self, "n_features_in_"):
            self.n_features_in_ = 1  # without it, scikit-learn's ensembles of fitted estimators say "not fitted"
        if not isinstance(X, ImageFeatures):
            return self._as_samples(X, reset=reset, lenient=lenient)
        if not len(X):
            raise InvalidInputError(EMPTY)
        return X

    def _extractor(self, backbone: Backbone, device: torch.device, engine: str, precision: str) -> FeatureExtractor:
        cache = open_cache(plain(self._cache_place()))
        return FeatureExtractor(
            backbone, device, self.n_jobs, cache, self.verbose, engine=engine, precision=str(plain(precision))
        )

    def _cache_place(self) -> str | os.PathLike[str] | Literal[False]:
        """Return the place of the cache, which depends on the parameter `cache`."""
        return self.cache

    def _fitted_extractor(self) -> FeatureExtractor:
        """Return the extractor of a fitted estimator, with the device and the engine of the fit if available.

        Not without the precision of the fit: in another precision, features differ by more than rounding.
        """
        device = nearest_device(self.device_)
        if device != self.device_:
            return self._extractor(self.backbone_, device, self.engine, self.precision_)
        # Not "openvino", which would raise an error if the estimator was loaded on a machine without OpenVINO.
        engine = "torch" if self.engine_ == "torch" else "auto"
        return self._extractor(self.backbone_, device, engine, self.precision_)

    def _resolve(self, seed: int) -> tuple[Backbone, torch.device]:
        backbone = resolve_backbone(self.backbone, self.weights, self.image_size, seed, plain(self.n_stages))
        device = resolve_device(self.device)
        check_precision(self.precision, device)
        return backbone, device

    @isolated()
    def transform(self, X: Any) -> np.ndarray:
        """Return the features of images; for a classifier, the features that its output layer receives.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images; see the Notes of :class:`PretrainedImageClassifier` for the accepted formats.

        Returns
        -------
        features : float32 ndarray of shape (n_samples, n_features)
            Features. They do not depend on the other images of `X`.
        """
        return np.asarray(self._transform(X))

    def _transform(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        samples = self._inputs(X, reset=False)
        return self._features(samples, self._fitted_extractor())

    @property
    def _n_features_out(self) -> int:
        return sum(size for _, size in self._features.groups)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return feature names that include the network block from which each feature comes.

        Parameters
        ----------
        input_features : None
            Ignored.

        Returns
        -------
        names : ndarray of str
            `pretrainedimageencoder0`, ... for the input of the network's own output layer;
            `pretrainedimageencoder_blocks.4.2_0`, ... for the means of a block, in this example of the module
            `blocks.4.2` of `backbone_.build()`; and `pretrainedimageencoder_blocks.4.2_std_0`, ... for its standard
            deviations.
        """
        names = super().get_feature_names_out(input_features)
        prefix, (_, n_own), *blocks = type(self).__name__.lower(), *self._features.groups
        names[n_own:] = [f"{prefix}_{name}_{i}" for name, size in blocks for i in range(size)]
        return names

    @isolated()
    def save(self, path: PathOrFile, *, include_backbone: bool = True, include_references: bool = True) -> None:
        """Save the fitted estimator to a file, without pickle. :func:`sktl.load` loads it.

        Parameters
        ----------
        path : str, os.PathLike or binary file object
            An existing file is replaced atomically, and left unchanged if saving fails. A file object is written to
            from its current position, and stays open.
        include_backbone : bool, default=True
            Whether the file contains the whole network. False stores only what training changed, and a digest of the
            rest. An output layer takes 8 bytes per feature and class: for the bundled network, 10 kB per class with the
            features of one stage, and 50 kB with the features of all stages. To load such a file, a machine needs the
            same pretrained weights; a local file of weights must be passed to `sktl.load`.
        include_references : bool, default=True
            Whether the file contains the references of `typicality`, which are features of up to 1,024 training images
            with their labels, and take about a byte per feature and image. False leaves them out, for instance if the
            images are confidential; the loaded model then has no `typicality`. Encoders have no references.

        Raises
        ------
        InvalidParameterError
            If a parameter is a function, a class or an instance, such as a callable `backbone`, `augmentation` or
            `image_reader`; if labels are not strings, numbers or booleans; or if `path` is neither a path nor a file
            that is open for binary writing, or has the suffix of another format, such as ".onnx" or ".pkl".
        ModelFileNotFoundError
            If the folder does not exist, or `path` is a folder.
        OSError
            If the file cannot be written.
        """
        check_is_fitted(self)
        if isinstance(path, str | os.PathLike):
            check_model_suffix(path)
        write_model(path, *to_document(self, include_backbone, include_references))

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,
        precision: str = "float32",
        calibration: Any = None,
        max_drop: float | None = None,
        verify: Any = None,
        include_references: bool = False,
    ) -> ExportReport:
        """Export the fitted estimator to a file that runs without sktl. The same as :func:`sktl.export`.

        Parameters
        ----------
        path : str or os.PathLike
            The file: ``.onnx`` for ONNX, ``.xml`` or a folder for OpenVINO IR, ``.pt2`` for a program of torch.export.
        format : {"onnx", "openvino", "program"}, default=None
            The format; None infers it from the suffix.
        precision : {"float32", "float16", "int8"}, default="float32"
            Precision of the weights and, with `"int8"`, of the computation.
        calibration : array-like of shape (n_samples, ...), default=None
            Images without labels that determine the ranges of 8-bit numbers, and on which the cost of a lower precision
            is measured.
        max_drop : float, default=None
            How much `"float16"` or `"int8"` may cost; None is 0.005.
        verify : array-like of shape (n_samples, ...), default=None
            Images on which the file is compared with the estimator, in addition to three drawings and noise.
        include_references : bool, default=False
            Whether the file has the p-values of `typicality` as a second output.

        Returns
        -------
        report : ExportReport
            What was written and how it was verified; `print` shows a summary.

        Raises
        ------
        ExportError
            If the network cannot be exported, or the outputs of the file differ from the estimator's. No file is then
            written. See :func:`sktl.export` for this and other errors.
        """
        from sktl._deployment.export import export

        return export(
            self,
            path,
            format=format,
            precision=precision,
            calibration=calibration,
            max_drop=max_drop,
            verify=verify,
            include_references=include_references,
        )

    def _sk_visual_block_(self) -> Any:
        """Return what scikit-learn's diagrams show: the name and, for a fitted estimator, a line below it."""
        return visual_block(self, type(self).__name__, str(self), caption_of(self))

    def _get_fitted_attr_html(self, doc_link: str = "") -> SummaryTable:
        """Return the table of a fitted estimator in scikit-learn's diagrams; their own table would build `module_`."""
        return SummaryTable(facts_of(self))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]  # the dtype of features, for any dtype of images
        # Not `string`: scikit-learn would conclude that rows of numbers may contain any object.
        return tags


def _not_nested(name: str, value: Any, estimator: str, has_net: bool) -> str:
    """Return why an estimator has no parameter with a nested name, and what to do."""
    wrong = f"{name!r} is not a parameter of {estimator}, none of whose parameters is an estimator."
    inner = name.removeprefix("net_params__")
    if not has_net or not inner.startswith(("optimizer__", "callbacks__")):
        return f"{wrong} Set {name.partition('__')[0]!r}."
    return (
        f"{wrong} Set net_params={{{inner!r}: {shown_value(value)}}}. In a search, list such dicts as candidates for "
        "'net_params'."
    )
