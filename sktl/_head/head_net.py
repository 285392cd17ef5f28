"""The output layer in training: random initialization, dropout, and a net with gradients in closed form."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import nn

from sktl._training.lbfgs import usable_curvatures
from sktl._training.skorch_net import Converged, OutputLayer, WeightedNet, drop
from sktl._utils.random import Stream, generator

_INITIAL_SCALE = 0.01


def random_layer(n_features: int, n_outputs: int, seed: int, dtype: torch.dtype = torch.float64) -> OutputLayer:
    """Return an output layer with small random weights."""
    layer = OutputLayer(n_features, n_outputs, dtype=dtype)
    # Small, because training never removes initial weights in directions that the samples do not span.
    bound = _INITIAL_SCALE / math.sqrt(max(1, n_features))
    draw = generator(seed, Stream.INITIAL)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=draw)
    return layer


class Gradients(NamedTuple):
    """A loss summed over samples, its gradients, and other values that a step needs.

    Attributes
    ----------
    loss : tensor of shape ()
    by_weight, by_bias : tensor
    curvatures : tensor of shape (n_outputs,)
        Second derivatives with respect to the outputs, summed over the samples.
    logits : tensor of shape (n_samples, n_outputs) or None
    """

    loss: torch.Tensor
    by_weight: torch.Tensor
    by_bias: torch.Tensor
    curvatures: torch.Tensor
    logits: torch.Tensor | None


class Head(nn.Module):
    """Dropout and output layer in training, with random numbers determined by a seed."""

    def __init__(self, n_features: int, n_outputs: int, dropout: float, seed: int, dtype: torch.dtype):
        super().__init__()
        self.dropout = dropout
        self.seed = seed
        self.n_draws = 0
        self.output = random_layer(n_features, n_outputs, seed, dtype)

    def drop(self, features: torch.Tensor) -> torch.Tensor:
        """Set some features to 0 at random in train mode."""
        if not (self.training and self.dropout):
            return features
        self.n_draws += 1
        return drop(features, self.dropout, generator(self.seed, Stream.DROPPED_FEATURES, self.n_draws))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.output(self.drop(features))


class HeadNet(WeightedNet):
    """A net of one layer on features, whose gradients are computed in closed form.

    Autograd would cost as much as one of the two matrix products of a step.
    """

    phase = "output layer"

    def _zero_grad_optimizer(self, set_to_none: bool | None = None) -> None:
        """Keep the gradients, because each evaluation of the loss replaces them."""

    # For L-BFGS: mean squares of the inputs, and mean second derivatives of the loss with respect to the logits.
    squares: torch.Tensor | None = None
    curvature_: torch.Tensor | None = None

    def initialize_optimizer(self, *args: Any, **kwargs: Any) -> HeadNet:
        super().initialize_optimizer(*args, **kwargs)
        if self.squares is not None:
            self.optimizer_.precondition = self._precondition
        return self

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
        """Set the gradients of a batch."""
        features, (values, weights) = batch
        module, layer = self.module_, self.module_.output
        if not module.training:
            self._set_training(True)
        with torch.no_grad():
            found = self.gradients(features, values, weights * self.loss_scale)
            loss, by_weight, by_bias, self.curvature_, logits = found
            if self.l2:
                loss += self.l2 / 2 * layer.weight.square().sum()
                by_weight.add_(layer.weight, alpha=self.l2)
            for parameter, gradient in ((layer.weight, by_weight), (layer.bias, by_bias)):
                # Callbacks may freeze the weight or the bias.
                parameter.grad = gradient if parameter.requires_grad else None
        return {"loss": loss, "y_pred": logits}

    def gradients(self, features: torch.Tensor, values: torch.Tensor, weights: torch.Tensor) -> Gradients:
        """Return the loss of a batch without the penalty, and its gradients."""
        return self.gradients_of(self.module_.output.weight, features, values, weights)

    def gradients_of(
        self, weight: torch.Tensor, features: torch.Tensor, values: torch.Tensor, weights: torch.Tensor
    ) -> Gradients:
        """Return the same for given weights of the layer."""
        inputs = self.module_.drop(features)
        # Computed as outputs by samples: the products are faster with few outputs, and so are operations over the
        # samples.
        logits = torch.addmm(self.module_.output.bias[:, None], weight, inputs.t()).t()
        loss, slopes, curvatures = self.criterion_.derivatives(logits, values, weights)
        return Gradients(loss, slopes.t() @ inputs, slopes.sum(dim=0), curvatures, logits)

    def _precondition(self, gradients: torch.Tensor) -> torch.Tensor:
        """Divide gradients by approximate second derivatives at the last point at which the loss was evaluated."""
        assert self.squares is not None
        assert self.curvature_ is not None
        layer, curvature = self.module_.output, usable_curvatures(self.curvature_)
        floor = torch.finfo(gradients.dtype).tiny
        parts = []
        if layer.weight.requires_grad:
            by_weight = torch.addr(torch.full_like(layer.weight, self.l2), curvature, self.squares)
            parts.append(by_weight.flatten())
        if layer.bias.requires_grad:
            parts.append(curvature)
        return gradients / torch.cat(parts).clamp_min_(floor)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if getattr(self.optimizer_, "converged", False):
            raise Converged
        super().on_epoch_begin(net, **kwargs)

    def forget(self) -> None:
        """Release data that only training needs."""
        super().forget()
        self.squares = self.curvature_ = None
