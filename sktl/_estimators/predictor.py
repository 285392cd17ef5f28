"""What the classifier and the regressor share: `fit` as a sequence of stages, from images and targets to a net."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sktl._backbones.backbone import Backbone, tensors_digest
from sktl._features.extractor import FeatureExtractor
from sktl._features.features_as_input import check_images, first_columns
from sktl._fine_tuning.augmentation_trial import choose_augmentation
from sktl._fine_tuning.tail_batches import check_change
from sktl._fine_tuning.train_stages import Choose, Images, Tuned, open_checkpoint, train_stages
from sktl._head.train_head import output_values, train_head
from sktl._images.augmentation import AUGMENTATIONS, Change
from sktl._images.problems import as_argument
from sktl._images.samples import Sample
from sktl._targets.base_targets import Targets
from sktl._targets.labeled_samples import Labeled, Split, hold_out
from sktl._training.callback_checks import check_scores
from sktl._training.json_values import plain
from sktl._training.net_callbacks import History, count_epochs, count_good_epochs, kept_start
from sktl._training.optimizers import check_optimizer
from sktl._training.recipe import Recipe, TailRecipe
from sktl._training.skorch_net import NeuralNet, WeightedNet
from sktl._training.training_run import Run, warn_if_diverged
from sktl._typicality.typicality import Typicality
from sktl._utils.fit_tasks import fit_task
from sktl._utils.forked_gradients import check_gradients
from sktl._utils.paths import checked_path
from sktl._utils.settings_isolation import isolated
from sktl._utils.sklearn_compat import Interval, Options, StrOptions
from sktl._utils.threads import n_threads
from sktl.exceptions import (
    ImageFailure,
    InvalidInputError,
    InvalidParameterError,
)

from .auto_parameters import (
    TrainingSet,
    augmentations,
    candidates_of,
    choose,
    resolve_recipe,
    with_choice,
)
from .base import PretrainedImageBase
from .fitted_features import PretrainedFeatures, TunedFeatures, other_blocks
from .invalid_images import check_usable, find_usable, of_all_stages, offering
from .parameter_combinations import check_combinations, check_within_trained
from .typical_images import TypicalityEstimator

# Rows of the training samples and, if some are held out, of the validation samples.
_Rows: TypeAlias = tuple[np.ndarray | slice, ...]
# Returns the recipe of the stages for a change of the images and their targets.
_RecipeOf: TypeAlias = Callable[[Change | None, Targets], TailRecipe]


class Seeds(NamedTuple):
    """Seeds of the parts of a fit. New fields go at the end, because another position would change the other seeds."""

    backbone: int
    head: int
    stages: int
    split: int
    choice: int
    typicality: int


class PretrainedImagePredictor(TypicalityEstimator):
    """Base class of estimators that train an output layer, and stages of the network, on images and targets."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = PretrainedImageBase._parameter_constraints | {
        "feature_stages": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto", "all"})],
        "weight_decay": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "optimizer": [StrOptions({"auto", "sgd", "adamw", "lbfgs"}), callable],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "lr_schedule": [StrOptions({"auto", "cosine", "constant"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "trainable_stages": [Interval(Integral, 0, None, closed="left"), StrOptions({"all"})],
        "freeze_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "backbone_lr_ratio": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "layer_decay": [Interval(Real, 0, 1, closed="right"), StrOptions({"auto"})],
        "augmentation": [StrOptions({"auto", *AUGMENTATIONS}), callable, None],
        "augmentation_views": [Interval(Integral, 1, None, closed="left"), None],
        "mixup_alpha": [Interval(Real, 0, None, closed="left")],
        "amp": [StrOptions({"auto"}), Options(bool, {False})],
        "compile": ["boolean"],
        "invalid_images": [StrOptions({"raise", "skip"})],
        "checkpoint": [str, os.PathLike, None],
        "net_params": [dict, None],
    }

    feature_stages: int | str
    early_stopping: bool
    validation_fraction: float
    invalid_images: str
    checkpoint: str | os.PathLike[str] | None
    net_params: dict[str, Any] | None
    selection_: dict[str, np.ndarray]
    net_: NeuralNet
    n_iter_: int
    recipe_: Recipe
    invalid_images_: tuple[ImageFailure, ...]

    def _check_parameters(self) -> None:
        check_optimizer(plain(self.optimizer))  # its errors say more than the error of a constraint
        if plain(self.trainable_stages) is True:
            raise InvalidParameterError(
                'trainable_stages=True is ambiguous. Pass trainable_stages="all" to train the whole network, or the '
                "number of last stages to train."
            )
        super()._check_parameters()

    def _fit_draft(self, X: Any, y: Any, sample_weight: Any, groups: Any, validation: tuple[Any, Any, Any]) -> Self:
        """Fit, unless an error or Ctrl-C leaves the estimator as it was before."""
        self._check_parameters()
        check_combinations(self)
        with fit_task(self, X, y, sample_weight), offering("skip", self), self._draft() as draft:
            draft._fit(X, y, sample_weight, groups, validation)
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, groups: Any, validation: tuple[Any, Any, Any]) -> None:
        samples = self._inputs(X, reset=True, lenient=self.invalid_images == "skip")
        targets = self._check_targets(y, sample_weight, len(samples), groups=groups)
        check_scores(self.net_params, targets.outputs)
        seeds = self._seeds()
        watched = self._check_validation(*validation, targets)
        self.backbone_, self.device_ = self._resolve(seeds.backbone)
        extractor = self._extractor(self.backbone_, self.device_, self.engine, self.precision)
        self.precision_ = extractor.precision
        found = find_usable(self, Labeled(samples, targets), (y, sample_weight), extractor)
        images, features, self.invalid_images_ = found
        if self.invalid_images_:  # numbers are standardized without them
            watched = self._check_validation(*validation, images.targets)
        rows = self._split(images.targets, watched, seeds.split)
        if self.backbone_.count_trainable(self.trainable_stages):
            self._fit_stages(images, rows, watched, extractor, seeds)
        else:
            self._fit_output_layer(images, features, rows, watched, extractor, seeds)
        self._set_outputs(images.targets)

    @abstractmethod
    def _check_targets(
        self, y: Any, sample_weight: Any, n_samples: int, rows: np.ndarray | None = None, groups: Any = None
    ) -> Targets:
        """Return the targets of the images in `rows`, or of all images."""

    @abstractmethod
    def _set_outputs(self, targets: Targets) -> None:
        """Set the fitted attributes that say what the outputs mean."""

    def _fit_output_layer(
        self,
        images: Images,
        computed: np.ndarray | None,
        rows: _Rows,
        watched: Images | None,
        extractor: FeatureExtractor,
        seeds: Seeds,
    ) -> None:
        """Train the output layer on features of the images, with early stopping if it is on."""
        # Called before anything else needs the network, so that images are decoded while the network is loaded.
        if computed is None:
            computed = of_all_stages(self, extractor)(images.samples)
        features = Labeled(computed, images.targets)
        layout, n_workers = extractor.layout_of(images.samples), n_threads(self.n_jobs)
        training = features.take(rows[0])
        chosen = choose(self, training, layout, seeds.choice, n_workers)
        if chosen.selection:
            self.selection_ = chosen.selection
        extractor = replace(extractor, feature_stages=chosen.n_stages)
        groups = layout.groups_of(chosen.n_stages)
        sizes = [size for _, size in groups]
        split = _split(features, rows, None).map(lambda some: first_columns(some, sum(sizes)))
        if watched is not None:
            with as_argument("X_val"):
                split = replace(split, validation=Labeled(extractor(watched.samples), watched.targets).counted())
        self.engine_, self.feature_stages_ = extractor.engine_name, chosen.n_stages
        self._features = PretrainedFeatures(chosen.n_stages, groups)
        self._typicality = Typicality.of(training.samples, layout, training.targets, seeds.typicality)
        described, n_features = TrainingSet.of(split.training.targets), sum(sizes)
        self.recipe_ = resolve_recipe(self, 0, described, n_features, self.device_, chosen)
        # "lbfgs" saves no state, and identifying one would take a pass over the images.
        folder = None if self.recipe_.optimizer == "lbfgs" else self.checkpoint
        states = open_checkpoint(
            folder, _split(images, rows, watched), extractor, self.recipe_, (seeds.head, seeds.choice)
        )
        run = Run(seeds.head, self.net_params, states and states.of_phase("output layer"))
        self.net_ = train_head(split, self.recipe_, run, sizes, n_workers)
        self.n_iter_ = count_epochs(self.net_.history)
        warn_if_diverged(self.net_)

    def _fit_stages(
        self, images: Images, rows: _Rows, watched: Images | None, extractor: FeatureExtractor, seeds: Seeds
    ) -> None:
        """Train the output layer alone, then together with the last stages."""
        n_trainable = self.backbone_.count_trainable(self.trainable_stages)
        check_gradients()
        check_images(images.samples)
        if watched is not None:
            check_images(watched.samples, "X_val")
        if (wanted := plain(self.feature_stages)) != "auto":
            check_within_trained(self, extractor.count_feature_stages(wanted), n_trainable)
        split = _split(images, rows, watched)
        check_change(augmentations(self)[0], split.training.samples[0], self.backbone_.preprocessing)
        self.engine_ = extractor.engine_name
        if self.engine_ == "torch":  # a part of the network runs on the same engine as the whole
            extractor = replace(extractor, engine="torch")
        # In all other cases, the pass that computes features reports unusable images before any training. Here, there
        # is no such pass (weights=None), or it sees a part of X and would report positions in that part.
        sees_all = len(split.training.samples) == len(images.samples) and len(augmentations(self)) == 1
        if split.validation is not None or self.weights is None or not sees_all:
            check_usable(self, images, extractor, "X")
            if watched is not None:
                check_usable(self, watched, extractor, "X_val")
        tuned, training = self._train_stages(images.counted(), split, extractor, seeds)
        self._set_tuned(tuned, training, extractor, seeds)

    def _train_stages(
        self, images: Images, split: Split[Sequence[Sample]], extractor: FeatureExtractor, seeds: Seeds
    ) -> tuple[Tuned, Images]:
        """Train stages. Return the result, and the images that it was trained on.

        If early stopping has held out images, stages are trained again on all images, for a good number of epochs.
        """
        n_trainable = self.backbone_.count_trainable(self.trainable_stages)
        candidates = candidates_of(self, extractor.layout, images.targets.loss, n_trainable)
        choose_for = self._chooser(extractor, seeds)
        change, recipe_of = self._augmentation(
            split.training, extractor, seeds, n_trainable, max(candidates.stages), choose_for
        )

        def train(split: Split[Sequence[Sample]], n_epochs: int | None = None, on: str = "") -> Tuned:
            recipe = recipe_of(change, split.training.targets)
            states = open_checkpoint(self.checkpoint, split, extractor, recipe, seeds, candidates)
            # Otherwise, a fit of all epochs would resume from the final state of fewer epochs, and vice versa.
            phase = "stages" if n_epochs is None else f"stages, {n_epochs} epochs"
            probing = Run(seeds.head, self.net_params, states and states.of_phase("output layer"), on=on)
            tuning = Run(seeds.stages, self.net_params, states and states.of_phase(phase), on=on, n_epochs=n_epochs)
            return train_stages(extractor, split, recipe, probing, tuning, choose_for)

        tuned = train(split)
        if len(split.training.samples) == len(images.samples) or not self._trains_again(tuned.net):
            return tuned, split.training
        again = train(Split(images), count_good_epochs(tuned.net.history), " on all images")
        if again.net.stopped:
            return tuned, split.training
        again.net.history = tuned.net.history
        return again, images

    def _trains_again(self, net: WeightedNet) -> bool:
        """Return True if stages are trained again on all images, after a training with held-out images.

        The second training has no validation images, which the user's callbacks may need.
        """
        return not net.stopped and not (self.net_params or {}).get("callbacks")

    def _set_tuned(self, tuned: Tuned, training: Images, extractor: FeatureExtractor, seeds: Seeds) -> None:
        """Set the fitted attributes that describe the training of stages."""
        net, recipe, selection = tuned
        if selection:
            self.selection_ = selection
        self.net_, self.recipe_ = net, recipe
        self.n_iter_, self.feature_stages_ = count_epochs(net.history), recipe.feature_stages
        cut, groups = net.module_.cut, extractor.layout.groups_of(recipe.feature_stages)
        if kept_start(net.history):  # the stages are as they were before
            self._features = PretrainedFeatures(recipe.feature_stages, groups)
            rows = of_all_stages(self, extractor)(training.samples)
            self._typicality = Typicality.of(rows, extractor.layout, training.targets, seeds.typicality)
        else:
            digest = tensors_digest(cut.network)
            self._features = TunedFeatures(cut, recipe.n_trainable, digest, recipe.feature_stages, groups)
            # Trained stages know the training images, which would look more ordinary than new images.
            self._typicality = None
        warn_if_diverged(net)
        if (recipe.augmentation is None or recipe.n_views) and cut.split:
            self.engine_ = replace(extractor, n_tail_stages=recipe.n_trainable).engine_name

    def _augmentation(
        self,
        training: Images,
        extractor: FeatureExtractor,
        seeds: Seeds,
        n_trainable: int,
        feature_stages: int,
        choose_for: Choose,
    ) -> tuple[Change | None, _RecipeOf]:
        """Return the augmentation, which a trial may choose, and a function that returns the recipe for one."""

        def recipe_of(change: Change | None, targets: Targets) -> TailRecipe:
            n_features, described = extractor.layout.length(feature_stages), TrainingSet.of(targets)
            recipe = resolve_recipe(self, n_trainable, described, n_features, self.device_, augmentation=change)
            assert isinstance(recipe, TailRecipe)
            return replace(recipe, feature_stages=feature_stages)

        change, *others = augmentations(self)
        if others:
            runs = Run(seeds.head), Run(seeds.stages)
            change = choose_augmentation(extractor, training, [change, *others], recipe_of, runs, choose_for)
        return change, recipe_of

    def _chooser(self, extractor: FeatureExtractor, seeds: Seeds) -> Choose:
        """Return the function that chooses features and penalty of the output layer before stages are trained."""
        layout, n_workers = extractor.layout, n_threads(self.n_jobs)

        def choose_for(features: Labeled[np.ndarray], recipe: TailRecipe) -> tuple[TailRecipe, dict[str, np.ndarray]]:
            chosen = choose(self, features, layout, seeds.choice, n_workers, recipe.n_trainable)
            return with_choice(self, recipe, chosen, TrainingSet.of(features.targets), layout), chosen.selection

        return choose_for

    def _seeds(self) -> Seeds:
        """Return the seeds of a fit, drawn from `random_state`."""
        return Seeds(*self._draw_seeds(len(Seeds._fields)))

    def _cache_place(self) -> str | os.PathLike[str] | Literal[False]:
        # A temporary folder would be lost with a killed process, and the resumed fit would compute all features again.
        if self.cache == "auto" and self.checkpoint is not None:
            return Path(checked_path(self.checkpoint, "checkpoint"), "features")
        return self.cache

    def _check_validation(self, X: Any, y: Any, sample_weight: Any, targets: Targets) -> Images | None:
        """Return the validation set that the user passed, or None."""
        if X is None and y is None and sample_weight is None:
            return None
        if not self.early_stopping:
            raise InvalidParameterError(
                "X_val and y_val are for early stopping: set early_stopping=True, or do not pass them."
            )
        if X is None or y is None:
            raise InvalidInputError("X_val and y_val go together: pass both, or neither.")
        with as_argument("X_val"):
            samples = self._inputs(X, reset=False)
        return Labeled(samples, targets.of_validation(y, sample_weight, len(samples)))

    def _split(self, targets: Targets, validation: Images | None, seed: int) -> _Rows:
        """Return the rows of the training samples and, if early stopping holds out some, of the validation samples.

        Samples of weight zero are in neither part, so the result equals the result of a fit without them.
        """
        if validation is not None or not self.early_stopping:
            return (targets.counted(),)
        return hold_out(targets, float(self.validation_fraction), seed)

    @cached_property
    @isolated()
    def module_(self) -> nn.Module:
        check_is_fitted(self)
        return _NetworkWithOutput(*self._features.modules(self.backbone_), self.net_.module_.output).eval()

    @property
    def history_(self) -> History:
        check_is_fitted(self)
        return self.net_.history

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the values of the output layer, float64 of shape (n_samples, n_outputs)."""
        check_is_fitted(self)
        samples = self._inputs(X, reset=False)
        # Instead of the features of all images, only the few numbers that the output layer makes of them are kept.
        kept = partial(_outputs_of, self.net_.module_.output, self.backbone_)
        return self._features(samples, replace(self._fitted_extractor(), kept=kept))

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "module_"}


def _outputs_of(layer: Any, backbone: Backbone, features: np.ndarray) -> np.ndarray:
    """Return the values of an output layer for features. A function of the module, because it travels to workers."""
    if features.shape[1] != layer.weight.shape[1]:
        raise other_blocks(backbone)
    return output_values(layer, features)


def _split(labeled: Labeled[Any], rows: _Rows, validation: Labeled[Any] | None) -> Split[Any]:
    """Return the training samples and the validation samples that were held out or passed, if any."""
    training, *held_out = (labeled.take(some) for some in rows)
    return Split(training, next(iter(held_out), validation and validation.counted()))


class _NetworkWithOutput(nn.Module):
    """Backbone and output layer as one module."""

    def __init__(self, backbone: nn.Module, features: nn.Module, head: nn.Linear):
        super().__init__()
        self.backbone = backbone
        self.head = head
        # Not registered as a module: it runs the backbone, whose parameters would then appear under two names.
        self.__dict__["features"] = features

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.__dict__["features"](images)
        return self.head(features[:, : self.head.in_features])
