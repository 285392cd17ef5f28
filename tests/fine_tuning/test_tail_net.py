"""Laws of the training of stages: what gradients are made of, which rates apply, and what ends a training."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from backbones import stochastic_net
from numpy.testing import assert_allclose
from skorch.callbacks import Callback
from torch import nn
from torchvision.ops import StochasticDepth

from sktl import PretrainedImageClassifier
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._fine_tuning import micro_batches as _micro_batches
from sktl._fine_tuning import tail_net as _tail
from sktl._fine_tuning.micro_batches import MicroBatchRunner, Workers
from sktl._fine_tuning.tail_batches import Batch, StoredInputs
from sktl._fine_tuning.tail_net import FineTuned, Start, _draws, train_tail
from sktl._head.head_net import random_layer
from sktl._head.standardization import Standardization
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.net_callbacks import History
from sktl._training.recipe import TailRecipe
from sktl._training.skorch_net import WeightedNet
from sktl._training.training_run import Run
from sktl.exceptions import DeviceMemoryError, DeviceWarning, TrainingError

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(23, 3, 16, 16)).astype(np.float32)
CODES = RNG.integers(0, 3, 23)
CODES[:3] = 0, 1, 2
WEIGHTS = RNG.uniform(0.2, 3, 23)
RECIPE = dict(
    optimizer="sgd", lr=0.02, weight_decay=0.01, max_epochs=2, batch_size=8, lr_schedule="cosine", label_smoothing=0.1,
    dropout=0.0, verbose=0, n_trainable=4, backbone_lr_ratio=0.5,
)  # fmt: skip


def train(n_jobs=2, held_out=None, net_params=None, seed=0, **changes):
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    recipe = TailRecipe(**RECIPE | changes)
    cut = backbone.cut(recipe.n_trainable)
    layer, standardization = random_layer(16, 3, 0), Standardization.identity(16)
    with torch.no_grad():
        activations = cut.trunk(torch.from_numpy(IMAGES)).numpy()
    training = Labeled(StoredInputs(activations.__getitem__), ClassTargets(np.arange(3), CODES, WEIGHTS))
    start, run = Start(layer, standardization, History()), Run(seed, net_params)
    with ThreadPoolExecutor(n_jobs) as pool:
        workers = Workers(pool, CPU)
        return train_tail(cut, backbone.preprocessing, start, Split(training, held_out), recipe, run, workers)


def weights_of(net):
    return {name: tensor.detach().clone() for name, tensor in net.module_.state_dict().items()}


def distance(net, other):
    pairs = zip(weights_of(net).values(), weights_of(other).values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


# ------------------------------------------------------------------------------------------------------- gradients


@contextlib.contextmanager
def micro_batches(monkeypatch, size):
    with monkeypatch.context() as patch:
        patch.setattr(_micro_batches, "_MICRO_BATCH", size)
        yield


@pytest.fixture
def no_draws(monkeypatch):
    """Without dropout and stochastic depth, whose draws belong to a micro-batch."""
    monkeypatch.setattr(_tail, "_draws", lambda cut: False)
    for kind in (nn.Dropout, StochasticDepth):
        monkeypatch.setattr(kind, "forward", lambda self, images: images)


@pytest.mark.parametrize("mixup_alpha", [0.0, 0.5])
def test_the_size_of_micro_batches_changes_nothing_but_rounding(monkeypatch, no_draws, mixup_alpha):
    whole = train(mixup_alpha=mixup_alpha)
    with micro_batches(monkeypatch, 3):
        assert distance(whole, train(mixup_alpha=mixup_alpha)) < 1e-5


def test_that_law_fails_for_a_loss_that_is_a_mean_over_its_batch(monkeypatch, no_draws):
    """What skorch and most loops do: the weighted mean of each part, or a plain mean of a short batch."""

    def naive(self, logits, y_true):
        codes, weights = y_true
        return (self.criterion_(logits, codes) * weights).sum() / weights.sum()

    monkeypatch.setattr(WeightedNet, "get_loss", naive)
    whole = train()
    with micro_batches(monkeypatch, 3):
        assert distance(whole, train()) > 1e-3


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_the_number_of_threads_changes_no_bit(n_jobs):
    expected = train(mixup_alpha=0.3, dropout=0.2)
    assert distance(train(n_jobs, mixup_alpha=0.3, dropout=0.2), expected) == 0


def test_that_law_fails_without_a_seed_for_dropout_and_stochastic_depth(monkeypatch):
    monkeypatch.setattr(_tail, "_draws", lambda cut: False)
    assert distance(train(3), train(3)) > 1e-5


def test_networks_that_draw_in_training_are_known():
    backbone = resolve_backbone(stochastic_net, "default", None, 0)
    assert _draws(backbone.cut(1))
    cut = backbone.cut(2)
    for module in cut.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert _draws(cut)  # stochastic depth
    assert not _draws(resolve_backbone("resnet18", None, 64, 0).cut(2))


def test_weights_count_as_repetitions(monkeypatch, no_draws):
    """A batch in which a sample stands twice has the gradient of one in which it weighs double."""
    net = train(max_epochs=1)
    net.runner = MicroBatchRunner(None, 4, CPU)
    inputs = torch.from_numpy(IMAGES[:6])
    gradients = []
    for rows, weights in (([0, 1, 2, 3, 3], [1, 1, 1, 1, 1]), ([0, 1, 2, 3], [1, 1, 1, 2])):
        net.module_.output.requires_grad_()
        targets = torch.from_numpy(CODES[rows]), torch.tensor(weights, dtype=torch.float64)
        net.train_step_single(Batch(inputs[rows], targets, seeds=(0, 1, 0)))
        gradients.append(torch.cat([p.grad.double().flatten() for p in net.module_.parameters() if p.requires_grad]))
    assert_allclose(gradients[0], gradients[1], atol=1e-7)


def test_gradients_are_shortened_to_the_greatest_length():
    net = train(max_epochs=1, max_grad_norm=1e-3)
    lengths = [float(p.grad.norm()) for p in net.module_.parameters() if p.grad is not None]
    assert np.linalg.norm(lengths) <= 1.0001e-3


# ----------------------------------------------------------------------------------------------------------- rates


@pytest.mark.parametrize("lr", [0.02, 0.2])
@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_each_stage_learns_at_its_ratio_of_lr_and_only_weights_decay(lr, layer_decay):
    net = train(lr=lr, layer_decay=layer_decay, lr_schedule="constant", max_epochs=1, optimizer="adamw")
    rate = {p: group["lr"] for group in net.optimizer_.param_groups for p in group["params"]}
    decay = {p: group["weight_decay"] for group in net.optimizer_.param_groups for p in group["params"]}
    network = net.module_.cut.network
    for depth, stage in enumerate([network.blocks[2], network.blocks[1], network.blocks[0], network.stem]):
        for parameter in stage.parameters():
            assert rate[parameter] == pytest.approx(lr * 0.5 * layer_decay**depth)
            assert decay[parameter] == 0
    assert sorted({r for p, r in rate.items() if p not in set(network.parameters())}) == [lr]
    assert sorted(decay.values())[-1] == 0.01  # of the output layer; stages are pulled to where they began


def test_weight_decay_pulls_stages_to_where_they_began_and_leaves_biases_and_norms_alone():
    start = stochastic_net()

    def moved(weight_decay):
        network = train(weight_decay=weight_decay, max_epochs=4, lr=0.1).module_.cut.network
        return float((network.blocks[2].down.weight - start.blocks[2].down.weight).norm().detach())

    assert moved(3.0) < 0.8 * moved(0.0)
    free = train(weight_decay=0.0, max_epochs=1, batch_size=23).module_.cut.network
    pulled = train(weight_decay=3.0, max_epochs=1, batch_size=23).module_.cut.network
    assert torch.equal(free.blocks[2].norm.weight, pulled.blocks[2].norm.weight)


def test_weight_decay_does_not_move_what_a_callback_has_frozen():
    weights = []

    class Freezing(Callback):
        def on_epoch_end(self, net, **kwargs):
            weight = net.module_.cut.network.blocks[2].down.weight.requires_grad_(False)
            weights.append(weight.detach().clone())

    train(weight_decay=3.0, max_epochs=3, lr=0.1, net_params={"callbacks": [Freezing()]})
    first, *later = weights
    assert all(torch.equal(weight, first) for weight in later)


@pytest.mark.parametrize("interpolation", [0.5, 0.75])
def test_interpolation_keeps_a_share_of_what_training_changed(interpolation):
    start, whole = stochastic_net(), train()
    part = train(interpolation=interpolation)
    for name, before in start.named_parameters():
        end = whole.module_.cut.network.get_parameter(name)
        expected = before + interpolation * (end - before)
        assert_allclose(part.module_.cut.network.get_parameter(name).detach(), expected.detach(), atol=1e-6)


@pytest.mark.parametrize("batch_size", [8, 11])  # of 23 images, 11 leaves one over
def test_the_rate_warms_up_and_ends_near_zero(batch_size):
    rates = []

    class Rates(Callback):
        def on_batch_begin(self, net, training=False, **kwargs):
            rates.append(net.optimizer_.param_groups[-1]["lr"])

    net = train(max_epochs=10, batch_size=batch_size, net_params={"callbacks": [("rates", Rates())]})
    assert len(rates) / 10 - rates.index(max(rates)) in (0, 1)  # a tenth of all steps
    assert rates[0] < 0.5 * max(rates)
    assert net.optimizer_.param_groups[-1]["lr"] < 0.02 * max(rates)


# ------------------------------------------------------------------------------------------------- memory, failure


class SmallMemory(FineTuned):
    """Has room for the activations of so many images."""

    room = 3

    def forward(self, inputs, draw=None):
        if len(inputs) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return super().forward(inputs, draw)


def test_where_a_batch_does_not_fit_it_is_computed_in_pieces_of_half_the_size(monkeypatch, no_draws):
    expected = train()
    sizes = []
    monkeypatch.setattr(SmallMemory, "forward", _recording(SmallMemory.forward, sizes))
    monkeypatch.setattr(_tail, "FineTuned", SmallMemory)
    with micro_batches(monkeypatch, 8), pytest.warns(DeviceWarning, match="8 images at once") as caught:
        found = train(n_jobs=1)
    assert len(caught) == 1
    assert distance(found, expected) < 1e-5
    assert sizes[:2] == [8, 4]
    assert set(sizes[3:]) == {1, 2}


def _recording(forward, sizes):
    def recorded(self, inputs, draw=None):
        sizes.append(len(inputs))
        return forward(self, inputs, draw)

    return recorded


def test_a_batch_that_batchnorm_learns_from_is_not_divided(monkeypatch):
    monkeypatch.setattr(_tail, "FineTuned", SmallMemory)
    with pytest.raises(DeviceMemoryError, match=r"batch of \d+ images does not fit.*BatchNorm.*smaller batch_size"):
        train(keeps_statistics=False)


@pytest.mark.filterwarnings("ignore::sktl.exceptions.DeviceWarning")
def test_where_not_one_image_fits_the_remedy_is_named(monkeypatch):
    monkeypatch.setattr(SmallMemory, "room", 0)
    monkeypatch.setattr(_tail, "FineTuned", SmallMemory)
    with pytest.raises(DeviceMemoryError, match=r"Not even one image.*device='cpu'.*train fewer stages"):
        train()


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+\. Lower lr=1e\+30, "):
        train(lr=1e30, lr_schedule="constant", max_grad_norm=1e30)


def test_the_best_epoch_on_the_validation_set_is_restored():
    held_out = Labeled(
        StoredInputs(IMAGES.__getitem__),
        ClassTargets(np.arange(3), CODES[::-1].copy(), WEIGHTS),
    )  # what is learned harms
    net = train(held_out=held_out, max_epochs=30, patience=4, lr=0.3, lr_schedule="constant", label_smoothing=0.0)
    losses = net.history[:, "valid_loss"]
    assert len(losses) == int(np.argmin(losses)) + 5 < 30
    with torch.no_grad():
        logits = net.module_(torch.from_numpy(IMAGES)).double()
    loss = nn.functional.cross_entropy(logits, torch.from_numpy(CODES[::-1].copy()), reduction="none").numpy()
    assert_allclose(np.average(loss, weights=WEIGHTS), min(losses), rtol=1e-5)


@pytest.mark.slow
def test_compiled_stages_learn_what_others_learn(no_draws):
    assert distance(train(compile=True, max_epochs=1), train(max_epochs=1)) < 1e-4


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
def test_activations_with_channels_last_keep_their_layout():
    """The stem of this transformer returns rows and columns of tokens, which its forward method views as a sequence."""
    X = np.random.default_rng(0).integers(0, 256, (8, 20, 20, 3), np.uint8)
    clf = PretrainedImageClassifier(
        backbone="timm/test_vit", weights=None, image_size=32, trainable_stages=6, max_epochs=1, augmentation=None
    )
    assert clf.fit(X, [0, 1] * 4).predict(X).shape == (8,)
