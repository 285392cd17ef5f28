"""The net that trains a tail: the last stages of a network together with its output layer.

Gradients are computed for micro-batches, and added in the order of the micro-batches. BatchNorm keeps the statistics of
the pretrained network, so that gradients of micro-batches add up to the gradients of the batch.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sktl._backbones.cut import Cut
from sktl._head.standardization import Standardization
from sktl._images.preprocessing import Preprocessing
from sktl._targets.labeled_samples import Split
from sktl._training.losses import LOSSES
from sktl._training.net_callbacks import History, kept_start
from sktl._training.optimizers import PairedOptimizer
from sktl._training.recipe import TailRecipe
from sktl._training.skorch_net import OutputLayer, WeightedNet, as_output_layer, drop, restored
from sktl._training.training_run import Run
from sktl._utils.forked_gradients import keep_gradients_possible
from sktl._utils.progress import training_bar
from sktl._utils.random import Stream, draws_from_globals, generator, seeded_globals
from sktl._utils.threads import single_threaded
from sktl._utils.torch_kernels import place, uses_onednn
from sktl.exceptions import TrainingError

from .fast_gradients import FastGradients
from .micro_batches import MicroBatchRunner, Workers
from .tail_batches import Batch, Inputs, LabeledInputs, TrainingBatches, ValidationBatches

_AS_IT_IS = contextlib.nullcontext()


class FineTuned(nn.Module):
    """A cut network, the standardization of its features and the output layer, in training."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(
        self,
        cut: Cut,
        preprocessing: Preprocessing,
        standardization: Standardization,
        layer: OutputLayer,
        recipe: TailRecipe,
    ):
        super().__init__()
        self.cut = cut
        self.output = layer
        self.preprocessing = preprocessing
        self.dropout = recipe.dropout
        self.keeps_statistics = recipe.keeps_statistics
        self.register_buffer("mean", standardization.mean.to(layer.weight.dtype), persistent=False)
        self.register_buffer("scale", standardization.scale.to(layer.weight.dtype), persistent=False)

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """Move inputs to the device of the layer; normalize pixels, and leave activations unchanged."""
        inputs = inputs.to(self.output.weight.device)
        if inputs.dtype == torch.uint8:
            return self.preprocessing.normalize(inputs)
        return self.cut.laid_out(inputs)

    def forward(self, inputs: torch.Tensor, draw: torch.Generator | None = None) -> torch.Tensor:
        features = (self.cut.tail(inputs).to(self.mean.dtype) - self.mean) / self.scale
        if self.training and self.dropout and draw is not None:
            features = drop(features, self.dropout, draw)
        return self.output(features)

    def train(self, mode: bool = True) -> FineTuned:
        super().train(mode)
        for module in self.cut.network.modules():
            if self.keeps_statistics and isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class _TailNet(WeightedNet):
    """A net whose gradients are summed over micro-batches, and whose stages have their own learning rates."""

    phase = "stages"
    recipe: TailRecipe
    runner: MicroBatchRunner | None = None
    draws: bool = False
    is_averaged = False
    start: dict[nn.Parameter, torch.Tensor]
    anchors: dict[nn.Parameter, torch.Tensor]
    alone: dict[nn.Parameter, torch.Tensor]  # weights of the output layer trained alone
    count: Callable[[int], Any] | None = None  # counts images, for a progress bar

    def get_params_for_optimizer(self, prefix: str, named_parameters: Any) -> tuple[list[Any], dict[str, Any]]:
        """Return one group of parameters for each stage and the output layer, with weights separate from the rest."""
        _, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        recipe, groups = self.recipe, []
        rates = {**self.module_.cut.depths(), **dict.fromkeys(self.module_.output.parameters(), -1)}
        for depth in sorted(set(rates.values())):
            of_stage = recipe.backbone_lr_ratio * recipe.layer_decay**depth
            rate = self.lr * (recipe.head_lr_ratio if depth < 0 else of_stage)
            members = [p for p, of in rates.items() if of == depth]
            head_decay = recipe.l2 if depth < 0 else 0.0  # stages are pulled toward their start, see below
            shared = {"lr": rate, "depth": depth}
            groups.append({"params": [p for p in members if p.ndim > 1], "weight_decay": head_decay} | shared)
            groups.append({"params": [p for p in members if p.ndim <= 1], "weight_decay": 0.0} | shared)
        return [[group for group in groups if group["params"]]], kwargs

    def advise_slower(self, phase: str) -> str:
        """Return advice, which is also about the rates of the stages if the output layer's rate is low enough."""
        if phase != self.phase or self.lr * self.recipe.head_lr_ratio > 2 * self.stable_lr():
            return super().advise_slower(phase)
        return f"Lower lr={self.lr:g}, for instance to {self.lr / 10:.2g}, or backbone_lr_ratio"

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Set the gradients of a batch."""
        self._set_training(True)
        parameters = [p for p in self.module_.parameters() if p.requires_grad]
        runner = self.runner
        assert runner is not None
        compute = functools.partial(self._micro_batch, batch, parameters)
        # On a busy machine, 3 of about 105 processes had a wrong gradient in their first fit, probably because several
        # threads created the same kernels at once. The first micro-batch therefore runs alone.
        parts = runner(compute, len(batch.inputs), n_alone=0 if runner.has_trained else 1)
        runner.has_trained = True
        of_each = dict(zip(parameters, zip(*(gradients for _, gradients in parts), strict=True), strict=True))
        set_gradients = functools.partial(_set_gradients, of_each)
        length = torch.stack(runner.each_share(set_gradients, parameters)).norm()
        # On a CPU, reading a number waits for nothing, so gradients below the limit are not written again.
        if length.device.type != "cpu" or not length <= self.recipe.max_grad_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.recipe.max_grad_norm, length)
        return {"loss": sum(loss for loss, _ in parts), "y_pred": None}

    def _micro_batch(
        self, batch: Batch, parameters: list[nn.Parameter], rows: slice, number: int
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """Return the contribution of a micro-batch to the loss of its batch, and its gradients."""
        module: FineTuned = self.module_
        inputs = module.prepare(batch.inputs[rows])
        others = slice(0, 0) if batch.partners is None else batch.partners[rows]
        if batch.partners is not None:
            inputs = batch.share * inputs + (1 - batch.share) * module.prepare(batch.inputs[others])
        if batch.inputs.dtype == torch.uint8:
            inputs = module.cut.trunk(inputs)
        draw = generator(*batch.seeds, number, Stream.DROPPED)
        device = module.output.weight.device
        seeded = seeded_globals(draw.initial_seed(), device) if self.draws else _AS_IT_IS
        fast = FastGradients() if uses_onednn(device) and not self.recipe.compile else _AS_IT_IS
        with seeded, torch.autocast(device.type, torch.bfloat16, enabled=self.recipe.amp), fast:
            logits = module(inputs, draw)
        values, weights = batch.targets[0].to(device), batch.targets[1].to(logits.dtype).to(device)
        loss = batch.share * self.get_loss(logits, (values[rows], weights[rows]))
        if batch.partners is not None:
            loss = loss + (1 - batch.share) * self.get_loss(logits, (values[others], weights[others]))
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
        super().on_batch_end(net, batch=batch, training=training, **kwargs)
        if training and self.count is not None:
            self.count(len(batch.inputs))

    def _step_optimizer(self, step_fn: Any) -> None:
        """Take a step, then pull the weights of the stages toward their initial values (L2-SP, decoupled)."""
        super()._step_optimizer(step_fn)
        rates = {p: group["lr"] for group in self.optimizer_.param_groups for p in group["params"]}

        @torch.no_grad()
        def pull(parameters: list[nn.Parameter]) -> None:
            for parameter in (p for p in parameters if p.requires_grad):  # callbacks may have frozen some
                parameter.lerp_(self.anchors[parameter], rates[parameter] * self.recipe.weight_decay)

        assert self.runner is not None
        self.runner.each_share(pull, self.anchors)

    def validate_start(self, dataset: torch.utils.data.Dataset) -> float:
        self.is_averaged = True
        try:
            with _replaced(self.alone):
                return super().validate_start(dataset)
        finally:
            self.is_averaged = False

    def infer(self, inputs: torch.Tensor, **fit_params: Any) -> torch.Tensor:
        """Return the logits of validation samples, in float64 on the CPU."""
        assert self.runner is not None

        def logits(rows: slice, number: int) -> torch.Tensor:
            with torch.no_grad():
                images = self.module_.prepare(inputs[rows])
                activations = self.module_.cut.trunk(images) if inputs.dtype == torch.uint8 else images
                return self.module_(activations).double().cpu()

        return torch.cat(self.runner(logits, len(inputs)))

    @torch.no_grad()
    def average(self) -> None:
        """Move the weights back toward their initial values, as specified by the recipe."""
        for parameter, before in self.start.items():
            parameter.lerp_(before, 1 - self.recipe.interpolation)

    @contextlib.contextmanager
    def as_returned(self) -> Iterator[None]:
        """Within the block, replace the trained weights by their average with the initial weights."""
        if self.is_averaged:  # a callback is scoring a batch of the validation set
            yield
            return
        trained = {parameter: parameter.detach().clone() for parameter in self.start}
        self.average()
        self.is_averaged = True
        try:
            yield
        finally:
            self.is_averaged = False
            _copy(trained)

    def forget(self) -> None:
        super().forget()
        for parameter in self.module_.parameters():
            parameter.grad = None
        self.runner = self.count = None
        self.start = {}
        self.alone = {}
        self.anchors = {}
        self.module = FineTuned  # an instance would be included in pickles twice


@contextlib.contextmanager
def _replaced(values: dict[nn.Parameter, torch.Tensor]) -> Iterator[None]:
    """Within the block, give parameters other values."""
    own = {parameter: parameter.detach().clone() for parameter in values}
    try:
        _copy(values)
        yield
    finally:
        _copy(own)


@torch.no_grad()
def _copy(values: dict[nn.Parameter, torch.Tensor]) -> None:
    for parameter, value in values.items():
        parameter.copy_(value)


def _set_gradients(
    of_each: dict[nn.Parameter, tuple[torch.Tensor | None, ...]], parameters: list[nn.Parameter]
) -> torch.Tensor:
    """Set the gradients of some parameters to the sums over micro-batches, and return their norm."""
    for parameter in parameters:
        known = [gradient for gradient in of_each[parameter] if gradient is not None]
        parameter.grad = sum(known[1:], known[0]) if known else None
    return nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])


@dataclass(frozen=True)
class Start:
    """The initial state for training stages.

    Parameters
    ----------
    layer : OutputLayer
        Output layer for raw features, with its rows in the order of the outputs.
    standardization : Standardization
        Standardization of the features, for training the layer.
    history : History
        History of the training of the output layer.
    alone : OutputLayer or None
        Output layer for raw features that is returned if no epoch of the stages is better. None returns `layer`.
    """

    layer: OutputLayer
    standardization: Standardization
    history: History
    alone: OutputLayer | None = None

    def returned(self, history: History, run: Run) -> OutputLayer:
        """Return the output layer to which the changes of training are added."""
        return self.layer if self.alone is None or not keeps_start(history, run) else self.alone


def keeps_start(history: History, run: Run) -> bool:
    """Return True if a run returns the stages as they were before."""
    return kept_start(history) or run.n_epochs == 0


def train_tail(
    cut: Cut,
    preprocessing: Preprocessing,
    start: Start,
    split: Split[Inputs],
    recipe: TailRecipe,
    run: Run,
    workers: Workers,
) -> WeightedNet:
    """Train the tail of a cut network together with an output layer.

    Parameters
    ----------
    cut : Cut
        Changed in place.
    preprocessing : Preprocessing
        Preprocessing for inputs that are pixels.
    start : Start
    split : Split of Inputs
        Pixels or activations at the cut, optionally with validation data for selecting the best epoch.
    recipe : TailRecipe
    run : Run
    workers : Workers

    Returns
    -------
    net : WeightedNet
        In eval mode on the CPU. `net.module_.cut` is the network, and `net.module_.output` maps its features to one
        value per output.
    """
    targets = split.training.targets
    rank = targets.rank
    order = torch.from_numpy(np.argsort(rank))

    def ordered(layer: OutputLayer) -> tuple[torch.Tensor, torch.Tensor]:
        return layer.weight.detach()[order], layer.bias.detach()[order]

    def standardized(layer: OutputLayer) -> OutputLayer:
        return as_output_layer(*start.standardization.unfold(*ordered(layer)), workers.device)

    draws = _draws(cut)
    layer, trained_alone = standardized(start.layer), standardized(start.alone or start.layer)
    module = place(FineTuned(cut, preprocessing, start.standardization, layer, recipe), workers.device)
    dataset, *others = (LabeledInputs(part, rank) for part in split.weighted())
    net = _make_net(module, trained_alone, dataset, next(iter(others), None), recipe, run)
    net.draws, before = draws, net.start
    net.runner = MicroBatchRunner.of(net.batch_size, split.training.samples, recipe, workers)
    alone = single_threaded() if net.runner.pool else _AS_IT_IS
    bar = training_bar(run.title + run.on, run.count_epochs(recipe) * len(dataset), recipe.verbose)
    with alone, _compiled(cut) if recipe.compile else _AS_IT_IS, bar as net.count:
        run.train(net, dataset, targets.outputs, rank)
    net.average()
    net.forget()
    with torch.no_grad():
        changes = [(p - before[p]).cpu().double() for p in layer.parameters()]  # weight, bias
        # Changes are added to the layer for raw features, so a layer that training did not change keeps its bits.
        first = ordered(start.returned(net.history, run))
        changed = zip(first, start.standardization.fold(*changes), strict=True)
        weight, bias = (p + change for p, change in changed)
        place(net.module_, torch.device("cpu")).eval()
        net.module_.output = as_output_layer(weight[rank], bias[rank]).requires_grad_(False)
    return net


def restored_tail(
    cut: Cut, preprocessing: Preprocessing, weight: torch.Tensor, bias: torch.Tensor, recipe: TailRecipe
) -> WeightedNet:
    """Return a net, as `train_tail` does, for a tail and an output layer that are already trained."""
    layer = as_output_layer(weight, bias).requires_grad_(False)
    module = FineTuned(cut, preprocessing, Standardization.identity(weight.shape[1]), layer, recipe).eval()
    net = _TailNet(module, criterion=LOSSES[recipe.loss], device=None)
    net.recipe = recipe
    return restored(net, recipe.loss)


@contextlib.contextmanager
def _compiled(cut: Cut) -> Iterator[None]:
    """Compile the tail with torch.compile within the block."""
    keep_gradients_possible()
    parts = cut.tail_parts()
    for part in parts:
        part.compile(dynamic=False)
    try:
        yield
    except torch._dynamo.exc.TorchDynamoException as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(f"compile=True failed on this network: {reason}. Leave compile=False.") from error
    finally:
        for part in parts:
            part._compiled_call_impl = None


def _draws(cut: Cut) -> bool:
    """Return True if the tail draws random numbers in train mode, for dropout or stochastic depth."""
    cut = copy.deepcopy(cut).train()  # copied, because BatchNorm may update its statistics
    images = torch.zeros(2, *cut.input_shape).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        activations = cut.trunk(images)
        return draws_from_globals(lambda: cut.tail(activations))


def _make_net(
    module: FineTuned,
    trained_alone: OutputLayer,
    dataset: LabeledInputs,
    held_out: LabeledInputs | None,
    recipe: TailRecipe,
    run: Run,
) -> _TailNet:
    """Return a net with the weights that it starts from, is pulled toward, and returns if no epoch is better."""
    net = run.make_net(
        _TailNet,
        module,
        recipe,
        dataset,
        held_out,
        device=None,  # leaves the module on its device
        iterator_train=TrainingBatches,
        iterator_train__seed=run.seed,
        iterator_train__mixup_alpha=recipe.mixup_alpha,
        iterator_valid=ValidationBatches,
        **_optimizer(recipe),
    )
    net.recipe = recipe
    pairs = zip(module.output.parameters(), trained_alone.parameters(), strict=True)
    net.alone = {parameter: value.detach() for parameter, value in pairs}
    net.start = {p: p.detach().clone() for p in module.parameters() if p.requires_grad}
    decayed = [p for p in module.cut.depths() if p.ndim > 1]
    net.anchors = {p: net.start[p] if recipe.keeps_statistics else torch.zeros_like(p) for p in decayed}
    return net


def _optimizer(recipe: TailRecipe) -> dict[str, Any]:
    """Return the optimizers of output layer and stages as arguments of a net, if the stages have their own."""
    if recipe.stage_optimizer == recipe.optimizer:
        return {}
    options = {"optimizer__head": recipe.optimizer, "optimizer__stages": recipe.stage_optimizer}
    return {"optimizer": PairedOptimizer, "lr": recipe.lr} | options
