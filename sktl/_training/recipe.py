"""How the output layer and stages are trained, every value resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from sktl._images.augmentation import Change

from .optimizers import OptimizerName

# Of variances of features towards their mean, in every recipe.
SHRINKAGE = 1.0


@dataclass(frozen=True)
class Recipe:
    """How the output layer is trained; every value is resolved.

    Parameters
    ----------
    optimizer : {"adamw", "sgd", "lbfgs"} or subclass of torch.optim.Optimizer
        "lbfgs" sees all samples at once, and `weight_decay` is then an L2 penalty.
    lr : float or None
        The highest learning rate; None for "lbfgs".
    weight_decay : float
        Of the weights in units of standardised features; the intercept is never decayed.
    max_epochs : int
    batch_size : int or None
        None is all samples.
    lr_schedule : {"cosine", "constant"}
        "cosine" decays from `lr` to 0 over all steps.
    label_smoothing, dropout : float in [0, 1)
    verbose : int
        2 or more prints a line per epoch.
    tol : float
        "lbfgs" stops when what it has left to descend is estimated to be this share of the loss.
    shrinkage : float
        A feature is divided by the root of its variance plus this share of the mean variance of all features.
    patience : int or None
        Epochs without a better loss on the validation set after which training stops, the best weights restored, be it
        those of the start; None trains for `max_epochs`.
    keeps_best : bool
        Whether the epoch with the lowest loss on a validation set wins; otherwise the loss is only recorded.
    feature_stages : int
        How many of the last stages of the network give features.
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

    @property
    def n_trainable(self) -> int:
        """How many stages are trained with the output layer."""
        return 0

    def quiet(self) -> Recipe:
        """Return the recipe without what is only said about it."""
        return replace(self, verbose=0)

    def count_warmup(self, n_steps: int) -> int:
        """Return in how many of some steps the learning rate rises to its highest."""
        return 0


@dataclass(frozen=True)
class TailRecipe(Recipe):
    """How the last stages are trained with the output layer; `lr` is that of the output layer trained alone.

    Parameters
    ----------
    n_trainable : int
        Stages to train.
    probing : Recipe or None
        How the output layer is trained alone before.
    stage_optimizer : {"adamw", "sgd"} or subclass of torch.optim.Optimizer
        Of the stages; `optimizer` is that of the output layer.
    head_lr_ratio, backbone_lr_ratio : float
        Learning rates of the output layer, and of the last stage, as fractions of `lr`.
    layer_decay : float in (0, 1]
        The stage j before the last learns at this to the power of j.
    augmentation : Change or None
    n_views : int or None
        Fixed random views of each image, which the epochs take in turn; None changes images anew in each epoch.
    mixup_alpha : float
        Of the beta distribution; 0 is no mixup.
    warmup : float in [0, 1)
        Share of all steps in which the learning rate rises to its highest.
    max_grad_norm : float
        Gradients longer than this are shortened to it.
    interpolation : float in (0, 1]
        Share of the trained weights in the result; the rest is what the stages and the output layer began with.
    keeps_statistics : bool
        Whether BatchNorm keeps its statistics; without pretrained weights it has none worth keeping.
    amp, compile : bool
        Whether the tail computes in bfloat16 where that is safe, and whether torch.compile translates it.
    """

    n_trainable: int = 0
    probing: Recipe | None = None
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
        return replace(self, verbose=0, probing=self.probing and self.probing.quiet())

    def count_warmup(self, n_steps: int) -> int:
        return math.ceil(n_steps * self.warmup)
