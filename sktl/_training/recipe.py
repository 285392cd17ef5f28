"""Recipes: how the output layer and stages are trained, with all values resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch.optim import AdamW

from sktl._images.augmentation import Change

from .losses import LOSSES
from .optimizers import OptimizerName

# Shrinkage of the variances of features toward their mean, used in every recipe.
SHRINKAGE = 1.0


@dataclass(frozen=True)
class Recipe:
    """How the output layer is trained, with all values resolved.

    Parameters
    ----------
    optimizer : {"adamw", "sgd", "lbfgs"} or subclass of torch.optim.Optimizer
        "lbfgs" uses all samples in each step, with `weight_decay` as an L2 penalty.
    lr : float or None
        Maximum learning rate; None for "lbfgs".
    weight_decay : float
        Weight decay of the weights for standardized features. The intercept is never decayed.
    max_epochs : int
    batch_size : int or None
        None uses all samples.
    lr_schedule : {"cosine", "constant"}
        "cosine" decays from `lr` to 0 over all steps.
    label_smoothing, dropout : float in [0, 1)
    verbose : int
        2 or more prints a line per epoch.
    tol : float
        "lbfgs" stops when the estimated remaining decrease is at most this fraction of the loss.
    shrinkage : float
        A feature is divided by the square root of its variance plus this fraction of the mean variance of its block.
    patience : int or None
        Number of epochs without a lower validation loss after which training stops and the best weights are restored,
        which may be the initial weights. None trains for `max_epochs`.
    keeps_best : bool
        Whether the epoch with the lowest validation loss is returned. Otherwise, the validation loss is only recorded.
    feature_stages : int
        Number of last stages of the network that contribute features.
    loss : str
        Name of the loss, a key of `LOSSES`.
    temperature : float in (0, 1]
        What the trained output layer is divided by.
    """

    optimizer: OptimizerName
    lr: float | None
    weight_decay: float
    max_epochs: int
    batch_size: int | None
    lr_schedule: str | None
    label_smoothing: float
    dropout: float
    verbose: int
    tol: float = 1e-12
    shrinkage: float = SHRINKAGE
    patience: int | None = None
    keeps_best: bool = True
    feature_stages: int = 1
    loss: str = "cross_entropy"
    temperature: float = 1.0

    @property
    def n_trainable(self) -> int:
        """Number of stages trained with the output layer."""
        return 0

    @property
    def l2(self) -> float:
        """Weight decay of the output layer for its loss. Decoupled weight decay does not depend on the loss."""
        if self.optimizer == "adamw" or (isinstance(self.optimizer, type) and issubclass(self.optimizer, AdamW)):
            return self.weight_decay
        return self.weight_decay * LOSSES[self.loss].penalty_share

    def quiet(self) -> Recipe:
        """Return the same recipe without output."""
        return replace(self, verbose=0)

    def count_warmup(self, n_steps: int) -> int:
        """Return the number of steps, out of `n_steps`, in which the learning rate rises to its maximum."""
        return 0


@dataclass(frozen=True)
class TailRecipe(Recipe):
    """How the last stages are trained with the output layer. `lr` is for training the output layer alone.

    Parameters
    ----------
    n_trainable : int
        Number of stages to train.
    probing : Recipe or None
        How the output layer is first trained alone.
    alone : Recipe or None
        How the output layer is trained that early stopping returns if no epoch of the stages has a lower validation
        loss. None is the output layer from which the stages start.
    stage_optimizer : {"adamw", "sgd"} or subclass of torch.optim.Optimizer
        Optimizer of the stages. `optimizer` is for the output layer.
    head_lr_ratio, backbone_lr_ratio : float
        Learning rates of the output layer and of the last stage, as fractions of `lr`.
    layer_decay : float in (0, 1]
        The learning rate of stage j before the last is multiplied by this number to the power of j.
    augmentation : Change or None
    n_views : int or None
        Number of fixed random views of each image, used in turn by the epochs. None draws new changes in each epoch.
    mixup_alpha : float
        Parameter of the beta distribution; 0 disables mixup.
    warmup : float in [0, 1)
        Fraction of all steps in which the learning rate rises to its maximum.
    max_grad_norm : float
        Gradients with a larger norm are scaled down to it.
    interpolation : float in (0, 1]
        Share of the trained weights in the result; the rest is the initial weights of the stages and the output layer.
    keeps_statistics : bool
        Whether BatchNorm keeps its statistics. Without pretrained weights, its statistics are not useful.
    amp, compile : bool
        Whether the tail computes in bfloat16 where this is safe, and whether it is compiled by torch.compile.
    """

    n_trainable: int = 0
    probing: Recipe | None = None
    alone: Recipe | None = None
    stage_optimizer: OptimizerName = "adamw"
    head_lr_ratio: float = 1.0
    backbone_lr_ratio: float = 1.0
    layer_decay: float = 1.0
    augmentation: Change | None = None
    n_views: int | None = None
    mixup_alpha: float = 0.0
    warmup: float = 0.1
    max_grad_norm: float = 5.0
    interpolation: float = 1.0
    keeps_statistics: bool = True
    amp: bool = False
    compile: bool = False

    def quiet(self) -> TailRecipe:
        probing, alone = (recipe and recipe.quiet() for recipe in (self.probing, self.alone))
        return replace(self, verbose=0, probing=probing, alone=alone)

    def count_warmup(self, n_steps: int) -> int:
        return math.ceil(n_steps * self.warmup)
