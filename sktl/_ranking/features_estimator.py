"""A scikit-learn estimator of features instead of images: the output layer of a classifier or regressor, alone."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if

from sktl._backbones.taps import StageLayout
from sktl._estimators.auto_parameters import TrainingSet, choose, resolve_recipe
from sktl._estimators.predictor import PretrainedImagePredictor
from sktl._head.head_net import random_layer
from sktl._head.train_head import output_values, train_head
from sktl._targets.base_targets import Targets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._targets.outputs import LogitOutputs, Outputs
from sktl._training.skorch_net import OutputLayer
from sktl._training.training_run import Run


def _has_probabilities(layer: FeaturesEstimator) -> bool:
    return isinstance(layer.outputs_, LogitOutputs)


class FeaturesEstimator(BaseEstimator):
    """The output layer of a classifier or a regressor, on features instead of images.

    Parameters
    ----------
    predictor : PretrainedImagePredictor
        An estimator with checked parameters.
    layout : StageLayout
        Layout of the features.
    seeds : (int, int), default=(0, 0)
        Seeds of the initial layer, and of the folds that choose features and penalty.
    n_workers : int, default=1
        Threads; results do not depend on it.
    """

    outputs_: Outputs
    layer_: OutputLayer
    classes_: np.ndarray

    def __init__(
        self,
        predictor: PretrainedImagePredictor,
        layout: StageLayout,
        seeds: tuple[int, int] = (0, 0),
        n_workers: int = 1,
    ):
        self.predictor = predictor
        self.layout = layout
        self.seeds = seeds
        self.n_workers = n_workers

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> FeaturesEstimator:
        """Train the output layer as `fit` of the estimator does."""
        targets = self._targets(y, groups)
        chosen = choose(self.predictor, Labeled(X, targets), self.layout, self.seeds[1], self.n_workers)
        sizes = [size for _, size in self.layout.groups_of(chosen.n_stages)]
        seen = np.ascontiguousarray(X[:, : sum(sizes)])
        recipe = resolve_recipe(self.predictor, 0, TrainingSet.of(targets), sum(sizes), torch.device("cpu"), chosen)
        net = train_head(Split(Labeled(seen, targets)), recipe, Run(self.seeds[0]), sizes, self.n_workers)
        return self._with_layer(net.module_.output, targets.outputs)

    def guess(self, X: np.ndarray, y: np.ndarray) -> FeaturesEstimator:
        """Set random weights for the outputs that `y` would have."""
        outputs = self._targets(y).outputs
        return self._with_layer(random_layer(X.shape[1], len(outputs), self.seeds[0]), outputs)

    def _targets(self, y: np.ndarray, groups: np.ndarray | None = None) -> Targets:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # y was checked as a whole; warnings about single folds would only confuse
            return _for_fold(self.predictor, y)._check_targets(y, None, len(y), groups=groups)

    def _with_layer(self, layer: OutputLayer, outputs: Outputs) -> FeaturesEstimator:
        self.layer_, self.outputs_ = layer, outputs
        if isinstance(outputs, LogitOutputs):
            self.classes_ = outputs.classes
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return predictions in the form of `y`."""
        return self.outputs_.predict(self._values(X))

    @available_if(_has_probabilities)
    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return the probabilities of classes or labels."""
        return self.outputs_.probabilities(self._values(X))  # type: ignore[attr-defined]

    @available_if(_has_probabilities)
    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the logits of classes or labels."""
        return self.outputs_.decision(self._values(X))  # type: ignore[attr-defined]

    def _values(self, X: np.ndarray) -> np.ndarray:
        return output_values(self.layer_, X[:, : self.layer_.in_features])

    def __sklearn_tags__(self) -> Tags:
        return self.predictor.__sklearn_tags__()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "layer_")


def _for_fold(predictor: PretrainedImagePredictor, y: np.ndarray) -> PretrainedImagePredictor:
    """Return an estimator whose `class_weight`, checked for all of `y`, has no classes that a fold lacks."""
    weights = getattr(predictor, "class_weight", None)
    if not isinstance(weights, Mapping) or y.ndim > 1:
        return predictor
    present, predictor = set(y.tolist()), copy.copy(predictor)
    return predictor.set_params(class_weight={label: weights[label] for label in weights if label in present})
