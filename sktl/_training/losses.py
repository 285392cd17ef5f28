"""Losses with derivatives in closed form, for classes, several labels and numbers.

Each loss is a torch module, so stages can be trained by autograd. It also returns the derivatives with which the output
layer is trained on features.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import nn

# Residuals beyond this many robust standard deviations count linearly (P. Huber, "Robust Statistics", 1981): for normal
# errors, the estimates are then 95 % as efficient as with squared errors.
_HUBER = 1.345


class Derivatives(NamedTuple):
    """A loss summed over samples, and its derivatives.

    Attributes
    ----------
    loss : tensor of shape ()
    slopes : tensor of shape (n_samples, n_outputs)
        First derivatives with respect to the outputs.
    curvatures : tensor of shape (n_outputs,)
        Second derivatives with respect to the outputs, summed over the samples.
    """

    loss: torch.Tensor
    slopes: torch.Tensor
    curvatures: torch.Tensor


class CrossEntropy(nn.CrossEntropyLoss):
    """The cross-entropy of one class per sample, with smoothed labels."""

    names: ClassVar[tuple[str, str]] = ("log_loss", "accuracy")
    penalty_share: ClassVar[float] = 1.0
    curvature: ClassVar[float] = 0.5
    smooths: ClassVar[bool] = True

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__(reduction="none", label_smoothing=label_smoothing)

    def derivatives(self, logits: torch.Tensor, codes: torch.Tensor, weights: torch.Tensor) -> Derivatives:
        """Return the weighted sum of the losses of samples, and its derivatives."""
        smoothing = self.label_smoothing
        weights = weights.to(logits.dtype).unsqueeze(1)
        codes = codes.unsqueeze(1)
        # Written out, because torch's softmax and cross-entropy take several times as long for few classes.
        shifted = logits - logits.amax(dim=1, keepdim=True)
        slopes = shifted.exp()
        totals = slopes.sum(dim=1, keepdim=True)
        of_each = totals.log() - (1 - smoothing) * shifted.gather(1, codes)
        if smoothing:
            of_each -= smoothing * shifted.mean(dim=1, keepdim=True)
        loss = (of_each * weights).sum()
        slopes /= totals
        curvatures = ((slopes - slopes.square()) * weights).sum(dim=0)
        if smoothing:
            slopes -= smoothing / logits.shape[1]
        slopes *= weights
        return Derivatives(loss, slopes.scatter_add_(1, codes, weights * (smoothing - 1)), curvatures)

    def wanted(self, codes: torch.Tensor, n_outputs: int) -> torch.Tensor:
        """Return the target probabilities, float32 of shape (n_outputs, n_samples)."""
        found = torch.full((n_outputs, len(codes)), self.label_smoothing / n_outputs, dtype=torch.float32)
        found[codes, torch.arange(len(codes))] += 1 - self.label_smoothing
        return found

    def along_samples(
        self, logits: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return losses, slopes and second derivatives of several problems, whose logits may be overwritten.

        Parameters
        ----------
        logits : tensor of shape (n_problems, n_outputs, n_samples)
        wanted : tensor of shape (n_outputs, n_samples)
            Return value of the method `wanted`.
        weights : tensor of shape (n_outputs, n_samples) or None
            Weights of single outputs. None for classes, whose weights are weights of samples.
        """
        # Written out, because torch's softmax takes three times as long for few classes.
        logits -= logits.amax(dim=1, keepdim=True)
        unlikely = (logits * wanted).sum(dim=1)
        # Without each sample's own class, whose term is about 1 if the sample is classified with confidence. Next to
        # it, rounding would erase the other terms, and a descent would search in vain for values that are lower.
        slopes = logits.exp_().sub_(wanted)
        others = slopes.sum(dim=1, keepdim=True)
        of_each = (others[:, 0].double() + 1).log().to(logits.dtype) - unlikely
        slopes.addcmul_(wanted, others, value=-1).div_(others + 1)
        found = slopes + wanted
        return of_each, slopes, found.addcmul_(found, found, value=-1)

    def held_out(
        self, logits: torch.Tensor, codes: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log loss of each sample, and whether it is classified correctly."""
        of_each = nn.functional.cross_entropy(logits, codes, reduction="none")
        return of_each, logits.argmax(dim=1) == codes


class ElementwiseLoss(nn.Module):
    """A sum over outputs, each with its own target."""

    names: ClassVar[tuple[str, str]]
    # The penalty of the weights is multiplied by this number.
    penalty_share: ClassVar[float] = 1.0
    # The largest second derivative in any direction of the outputs.
    curvature: ClassVar[float] = 1.0
    # Whether there are labels to smooth.
    smooths: ClassVar[bool] = False

    def forward(self, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return the loss of each output of each sample, of shape (n_samples, n_outputs)."""
        return self.of_each(outputs, self.smoothed(values.to(outputs.dtype)))

    def smoothed(self, values: torch.Tensor) -> torch.Tensor:
        """Return the targets with smoothed labels."""
        return values

    @abstractmethod
    def of_each(self, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Return the losses."""

    @abstractmethod
    def slopes(self, outputs: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return first and second derivatives with respect to the outputs."""

    def derivatives(self, outputs: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> Derivatives:
        """Return the weighted sum of the losses of samples, and its derivatives."""
        weights, wanted = weights.to(outputs.dtype), self.smoothed(values.to(outputs.dtype))
        slopes, seconds = self.slopes(outputs, wanted)
        loss = (self.of_each(outputs, wanted) * weights).sum()
        return Derivatives(loss, slopes * weights, (seconds * weights).sum(dim=0))

    def wanted(self, values: torch.Tensor, n_outputs: int) -> torch.Tensor:
        """Return the targets, float32 of shape (n_outputs, n_samples)."""
        return self.smoothed(values.float()).t().contiguous()

    def along_samples(
        self, outputs: torch.Tensor, wanted: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return losses, slopes and second derivatives of several problems, as `CrossEntropy` does."""
        of_each = self.of_each(outputs, wanted)
        slopes, seconds = self.slopes(outputs, wanted)
        if weights is not None:
            of_each, slopes, seconds = of_each * weights, slopes * weights, seconds * weights
        return of_each.sum(dim=1), slopes, seconds

    def held_out(
        self, outputs: torch.Tensor, values: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss and the score of each output of each sample, of shape (n_samples, n_outputs).

        Parameters
        ----------
        outputs, values : tensor of shape (n_samples, n_outputs)
        weights : tensor of shape (n_samples,)
        """
        return self.of_each(outputs, values.to(outputs.dtype)), self.scores(outputs, values, weights)

    @abstractmethod
    def scores(self, outputs: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the contribution of each output of each sample to the weighted mean score of the output."""


class BinaryCrossEntropy(ElementwiseLoss):
    """The sum of the binary cross-entropies of several labels, with smoothed targets."""

    names = ("log_loss", "accuracy")
    # A label is a classifier of two classes. The difference of two logits has half the penalty of both.
    penalty_share = 0.5
    curvature = 0.25
    smooths = True

    def __init__(self, label_smoothing: float = 0.0):
        super().__init__()
        self.label_smoothing = label_smoothing

    def smoothed(self, values: torch.Tensor) -> torch.Tensor:
        return values * (1 - self.label_smoothing) + self.label_smoothing / 2

    def of_each(self, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        against, doubt = _against(outputs, wanted)
        return nn.functional.softplus(against) - against * doubt

    def slopes(self, outputs: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        against, doubt = _against(outputs, wanted)
        found = against.sigmoid()
        return (found - doubt) * _signs(wanted), found - found.square()

    def scores(self, outputs: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return ((outputs > 0) == (values > 0.5)).float()


def _signs(wanted: torch.Tensor) -> torch.Tensor:
    """Return -1 where a label is rather wanted than not, and 1 elsewhere."""
    return 1 - 2 * (wanted > 0.5).to(wanted.dtype)


def _against(outputs: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits of labels being wrong, and the probability of this that is wanted, at most a half.

    Of an output itself, a small loss would be the difference of two large numbers.
    """
    return outputs * _signs(wanted), torch.minimum(wanted, 1 - wanted)


class SquaredLoss(ElementwiseLoss):
    """Half the squared error of standardized numbers, summed over numbers."""

    names = ("loss", "r2")

    def of_each(self, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (outputs - wanted).square() / 2

    def slopes(self, outputs: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return outputs - wanted, torch.ones_like(outputs)

    def scores(self, outputs: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return contributions to coefficients of determination; NaN for numbers that are constant."""
        shares = (weights / weights.sum())[:, None]
        variances = (shares * (values - (shares * values).sum(dim=0)).square()).sum(dim=0)
        # Outputs are in float32, and numbers that vary have a standard deviation of about 1.
        variances[variances.sqrt() <= torch.finfo(torch.float32).eps] = torch.nan
        return 1 - (outputs - values).square() / variances


class HuberLoss(SquaredLoss):
    """The Huber loss of numbers in robust standard deviations, summed over numbers."""

    def of_each(self, outputs: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        residuals = (outputs - wanted).abs()
        near = residuals.clamp_max(_HUBER)
        return near * (residuals - near / 2)

    def slopes(self, outputs: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        residuals = outputs - wanted
        # The second result is not the second derivative of the loss, which is 0 far away, but the second derivative of
        # the parabola that touches the loss there.
        return residuals.clamp(-_HUBER, _HUBER), _HUBER / residuals.abs().clamp_min(_HUBER)


LOSSES: dict[str, type[CrossEntropy | ElementwiseLoss]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared_error": SquaredLoss,
    "huber": HuberLoss,
}


def make_loss(name: str, label_smoothing: float) -> CrossEntropy | ElementwiseLoss:
    """Return a loss by its name."""
    kind = LOSSES[name]
    return kind(**smoothing_of(name, label_smoothing))


def smoothing_of(name: str, label_smoothing: float) -> dict[str, float]:
    """Return the arguments of a loss."""
    return {"label_smoothing": label_smoothing} if LOSSES[name].smooths else {}
