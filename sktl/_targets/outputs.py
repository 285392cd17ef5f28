"""What the outputs of the output layer mean: classes, several labels, or numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit, log_expit, log_softmax, softmax

from sktl.exceptions import InvalidInputError

from .target_tables import check_column_names


@dataclass(frozen=True)
class Outputs(ABC):
    """The meaning of the outputs, one column for each class, label or number.

    Attributes
    ----------
    kind : str
        What they are, in the plural.
    """

    kind: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of columns."""

    def names(self) -> list[Any]:
        """Return the names of the columns, if they have names."""
        return []

    def check_columns(self, n_columns: int, names: Sequence[Any] | None, name: str, owner: str) -> None:
        """Raise `InvalidInputError` if a table has other columns than the outputs.

        Columns without names, here or there, are compared by their number alone.

        Parameters
        ----------
        n_columns : int
        names : sequence or None
            The names of the columns of the table.
        name, owner : str
            For the error: the name of the table, and the owner of the outputs.
        """
        if n_columns != len(self):
            raise InvalidInputError(
                f"{name} has {n_columns} columns, but {owner} has {len(self)}. Pass the same columns."
            )
        check_column_names(names, self.names(), name, owner)

    @abstractmethod
    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """Return the predictions for outputs of shape (n_samples, n_columns), in the form of `y`."""

    @abstractmethod
    def example(self) -> np.ndarray:
        """Return a small `y` of this form."""

    @abstractmethod
    def observed(self, values: np.ndarray) -> np.ndarray:
        """Return the values of training targets in the form of `y`."""


@dataclass(frozen=True)
class LogitOutputs(Outputs):
    """Logits of classes or labels.

    Parameters
    ----------
    classes : array of shape (n_columns,)
    """

    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def names(self) -> list[Any]:
        return list(self.classes.tolist())

    @abstractmethod
    def decision(self, outputs: np.ndarray) -> np.ndarray:
        """Return the logits in the form of `decision_function`."""

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probability of each class or label, of shape (n_samples, n_columns)."""

    @abstractmethod
    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the logarithm of the probability of each class or label."""


@dataclass(frozen=True)
class ClassOutputs(LogitOutputs):
    """One logit per class, of which the largest wins.

    Parameters
    ----------
    classes : array of shape (n_classes,)
        Sorted labels in their own dtype.
    """

    kind = "these classes"

    def example(self) -> np.ndarray:
        return self.classes.repeat(2)

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return self.classes[outputs.argmax(axis=1)]

    def observed(self, values: np.ndarray) -> np.ndarray:
        return self.classes[values]

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        # For two classes, scikit-learn expects one column.
        return outputs[:, 1] - outputs[:, 0] if len(self) == 2 else outputs

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        return softmax(outputs, axis=1)

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        return log_softmax(outputs, axis=1)


@dataclass(frozen=True)
class LabelOutputs(LogitOutputs):
    """One logit per label. An image has a label if its logit is above 0.

    Parameters
    ----------
    classes : array of shape (n_labels,)
        Names of the labels, or their positions. They become objects.
    """

    kind = "these labels"

    def __post_init__(self) -> None:
        # scikit-learn's scorers take two integers for the classes of a binary task, and use only one column.
        object.__setattr__(self, "classes", self.classes.astype(object))

    def example(self) -> np.ndarray:
        return np.tile(np.array([[0], [1]]), (2, len(self)))

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return (outputs > 0).astype(np.int64)

    def observed(self, values: np.ndarray) -> np.ndarray:
        return (values > 0.5).astype(np.int64)  # values of labels that cannot be learned are not exactly 0 or 1

    def decision(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        return expit(outputs)

    def log_probabilities(self, outputs: np.ndarray) -> np.ndarray:
        return log_expit(outputs)


@dataclass(frozen=True)
class NumberOutputs(Outputs):
    """One standardized number per column.

    Parameters
    ----------
    center, scale : float64 array of shape (n_numbers,)
        A prediction is an output times the scale plus the center.
    is_vector : bool
        Whether `y` has shape (n_samples,).
    column_names : list of str or None
        Names of the columns of a data frame.
    """

    kind = "numbers"

    center: np.ndarray
    scale: np.ndarray
    is_vector: bool
    column_names: list[str] | None = None

    def __len__(self) -> int:
        return len(self.center)

    def names(self) -> list[Any]:
        return list(self.column_names or [])

    def example(self) -> np.ndarray:
        return self.predict(np.tile(np.arange(4.0)[:, None], len(self)))

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        numbers = outputs * self.scale + self.center
        return numbers[:, 0] if self.is_vector else numbers

    def observed(self, values: np.ndarray) -> np.ndarray:
        return self.predict(values)

    def take(self, columns: np.ndarray) -> NumberOutputs:
        """Return the meaning of some of the columns."""
        names = None if self.column_names is None else [self.column_names[i] for i in columns]
        return replace(self, center=self.center[columns], scale=self.scale[columns], column_names=names)
