"""A skorch net that callbacks can score during training: labels with the batches, and predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils import RegressorTags, Tags

from sktl._targets.base_targets import Targets
from sktl._targets.outputs import LogitOutputs, NumberOutputs, Outputs
from sktl._utils.docstrings import documented
from sktl.exceptions import TrainingError

with documented("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks.scoring import ScoringBase
    from skorch.dataset import Dataset


def tags_of(tags: Tags, outputs: Outputs | None) -> Tags:
    """Return the tags of a classifier, changed to the tags of a regressor if the outputs are numbers."""
    if isinstance(outputs, NumberOutputs):
        tags.estimator_type, tags.classifier_tags, tags.regressor_tags = "regressor", None, RegressorTags()
    return tags


class LabeledDataset(Dataset):
    """Samples with targets and weights, in the form of a skorch dataset of samples and labels.

    Parameters
    ----------
    targets : Targets
    rank : int array of shape (n_outputs,)
        Column of the module's output for each column of the outputs.
    """

    def __init__(self, targets: Targets, rank: np.ndarray):
        self.values = torch.from_numpy(targets.ranked_values(rank))
        self.weights = torch.from_numpy(targets.ranked_weights(rank))
        self.y = targets.outputs.observed(targets.values())  # only used by callbacks

    @property
    def X(self) -> LabeledDataset:  # noqa: N802 (skorch's name)
        """The input for predictions."""
        return self

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, Any]:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self.inputs_of(i), self.y[i]

    def inputs_of(self, i: int) -> torch.Tensor:
        """Return the module's input for a sample."""
        raise NotImplementedError


class ScoringNet(ClassifierMixin, NeuralNet):
    """A skorch net that predicts in the form of `y` during training, so callbacks can score it like any estimator.

    The module has its own order of columns: classes, for instance, in the order in which they appear in the training
    set. Scoring callbacks get labels, and outputs in the estimator's order. Other callbacks get unchanged batches.
    """

    outputs_: Outputs | None = None
    columns: torch.Tensor | None = None
    _is_scored = False

    def number(self, outputs: Outputs, rank: np.ndarray) -> None:
        """Set what the outputs mean, and the module's column for each of them."""
        self.outputs_ = outputs
        self.columns = torch.from_numpy(rank)

    @property
    def classes_(self) -> np.ndarray | None:
        """The classes or labels. None for numbers, and after training."""
        return getattr(self.outputs_, "classes", None)

    def __sklearn_tags__(self) -> Tags:
        return tags_of(super().__sklearn_tags__(), self.outputs_)

    def forget(self) -> None:
        """Release data that only training needs, because the output layer will be changed."""
        self.outputs_ = self.columns = None

    def initialize_callbacks(self) -> ScoringNet:
        super().initialize_callbacks()
        scoring = [callback for _, callback in self.callbacks_ if isinstance(callback, ScoringBase)]
        self._is_scored = bool(scoring)
        for callback in scoring:
            if callback.on_train:
                # Predictions in a training step are made by the weights before the step, with dropout and augmentation.
                callback.use_caching = False
        return self

    def notify(self, method_name: str, **told: Any) -> None:
        if method_name != "on_batch_end" or not self._is_scored:
            super().notify(method_name, **told)
            return
        self.on_batch_end(self, **told)
        labeled = told | self._labeled(told["batch"], told["y_pred"])
        for _, callback in self.callbacks_:
            callback.on_batch_end(self, **(labeled if isinstance(callback, ScoringBase) else told))

    def _labeled(self, batch: Any, y_pred: torch.Tensor | None) -> dict[str, Any]:
        """Return a batch and its predictions in terms of labels."""
        outputs, columns = self._numbers()
        inputs, (values, _) = batch[:2]
        values = columns.argsort()[values] if values.ndim == 1 else values[:, columns]
        labels = outputs.observed(values.numpy())
        return {"batch": (inputs, labels), "y_pred": None if y_pred is None else y_pred[:, columns]}

    def _numbers(self) -> tuple[Outputs, torch.Tensor]:
        if self.outputs_ is None or self.columns is None:
            raise TrainingError("net_ can only predict for callbacks during training. Call predict of the estimator.")
        return self.outputs_, self.columns

    def evaluation_step(self, batch: Any, training: bool = False) -> torch.Tensor:
        """Return the outputs for a batch, in the estimator's order."""
        _, columns = self._numbers()
        self._set_training(training)
        with torch.set_grad_enabled(training):
            return self.infer(batch[0])[:, columns]

    def forward_iter(self, X: Any, training: bool = False, device: Any = "cpu") -> Iterator[torch.Tensor]:
        """Yield the outputs for a dataset of the training run, or for the inputs of one batch."""
        if isinstance(X, LabeledDataset):
            yield from super().forward_iter(X, training, device)
        else:
            yield self.evaluation_step((X, None), training).to(device)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of classes or labels, in the order of `classes_`."""
        outputs, _ = self._numbers()
        assert isinstance(outputs, LogitOutputs)
        return outputs.probabilities(self._outputs_for(X))

    def predict(self, X: Any) -> np.ndarray:
        """Return the prediction for each sample, in the form of `y`."""
        return self._numbers()[0].predict(self._outputs_for(X))

    def _outputs_for(self, X: Any) -> np.ndarray:
        return torch.cat(list(self.forward_iter(X))).double().numpy()
