"""What skorch's callbacks need to score a net during training: labels with the batches, and label predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin

from sktl._targets.targets import Targets
from sktl._utils.docstrings import documented
from sktl.exceptions import TrainingError

with documented("skorch"):
    from skorch import NeuralNet
    from skorch.callbacks.scoring import ScoringBase
    from skorch.dataset import Dataset


class LabelledDataset(Dataset):
    """Samples with class codes and weights, in the form of a skorch dataset of samples and labels.

    Parameters
    ----------
    targets : Targets
    rank : int array of shape (n_classes,)
        Column of the module's output for each class.
    """

    def __init__(self, targets: Targets, rank: np.ndarray):
        self.codes = torch.from_numpy(rank[targets.codes])
        self.weights = torch.from_numpy(targets.weights)
        self.y = targets.labels()  # only used by callbacks

    @property
    def X(self) -> LabelledDataset:  # noqa: N802 (skorch's name)
        """The input for predictions."""
        return self

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, Any]:
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        return self.inputs_of(i), self.y[i]

    def inputs_of(self, i: int) -> torch.Tensor:
        """Return the module's input for a sample."""
        raise NotImplementedError


class ScoringNet(ClassifierMixin, NeuralNet):
    """A skorch net that predicts labels during training, so callbacks can score it like any classifier.

    The module numbers classes in the order in which they appear in the training set. Scoring callbacks get labels, and
    logits in the order of `classes_`. Other callbacks get batches unchanged.
    """

    classes_: np.ndarray | None = None
    columns: torch.Tensor | None = None
    _is_scored = False

    def number(self, classes: np.ndarray, rank: np.ndarray) -> None:
        """Set the classes, and the column of the module's output for each class."""
        self.classes_ = classes
        self.columns = torch.from_numpy(rank)

    def forget(self) -> None:
        """Release data that only training needs, because the output layer will be changed."""
        self.classes_ = self.columns = None

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
        labelled = told | self._labelled(told["batch"], told["y_pred"])
        for _, callback in self.callbacks_:
            callback.on_batch_end(self, **(labelled if isinstance(callback, ScoringBase) else told))

    def _labelled(self, batch: Any, y_pred: torch.Tensor | None) -> dict[str, Any]:
        """Return a batch and its predictions in terms of labels."""
        classes, columns = self._numbers()
        inputs, (codes, _) = batch[:2]
        labels = classes[columns.argsort()[codes].numpy()]
        return {"batch": (inputs, labels), "y_pred": None if y_pred is None else y_pred[:, columns]}

    def _numbers(self) -> tuple[np.ndarray, torch.Tensor]:
        if self.classes_ is None or self.columns is None:
            raise TrainingError("net_ can only predict for callbacks during training. Call predict of the classifier.")
        return self.classes_, self.columns

    def evaluation_step(self, batch: Any, training: bool = False) -> torch.Tensor:
        """Return the logits of a batch, in the order of `classes_`."""
        _, columns = self._numbers()
        self._set_training(training)
        with torch.set_grad_enabled(training):
            return self.infer(batch[0])[:, columns]

    def forward_iter(self, X: Any, training: bool = False, device: Any = "cpu") -> Iterator[torch.Tensor]:
        """Yield the logits for a dataset of the training run, or for the inputs of one batch."""
        if isinstance(X, LabelledDataset):
            yield from super().forward_iter(X, training, device)
        else:
            yield self.evaluation_step((X, None), training).to(device)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probabilities of the classes, in the order of `classes_`."""
        return torch.cat(list(self.forward_iter(X))).double().softmax(dim=1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """Return the most probable label of each sample."""
        winners = self.predict_proba(X).argmax(axis=1)
        return self._numbers()[0][winners]
