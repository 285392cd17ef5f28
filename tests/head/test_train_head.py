"""Laws of the training of the output layer."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler
from skorch.history import History
from torch.optim.lr_scheduler import LambdaLR

from sktl._head import feature_batches as _inputs
from sktl._head.feature_batches import StandardizedFeatures
from sktl._head.standardization import Standardization
from sktl._head.train_head import output_values, train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.losses import CrossEntropy
from sktl._training.net_callbacks import CosineSchedule, count_epochs
from sktl._training.net_params import check_net_params
from sktl._training.recipe import Recipe
from sktl._training.skorch_net import OutputLayer, WeightedNet
from sktl._training.training_run import Run
from sktl.exceptions import InvalidParameterError, TrainingError

RNG = np.random.default_rng(0)
FEATURES = (RNG.normal(size=(90, 6)) * [1, 10, 0.1, 1, 1, 1] + [0, 5, -3, 0, 0, 0]).astype(np.float32)
CODES = (FEATURES[:, 0] + FEATURES[:, 1] / 10 + RNG.normal(size=90) > 0.5).astype(np.int64) + (FEATURES[:, 3] > 0.7)
ONES = np.ones(90)
LABELED = Labeled(FEATURES, ClassTargets(np.arange(3), CODES, ONES))
SGD = Recipe("sgd", 0.05, 0.01, 10, 16, "cosine", 0.0, 0.0, 0)
LBFGS = Recipe("lbfgs", None, 0.1, 500, None, None, 0.0, 0.0, 0)


def train(recipe=SGD, features=FEATURES, codes=CODES, weights=ONES, seed=0, **net_params):
    split = Split(Labeled(features, ClassTargets(np.arange(3), codes, weights)))
    net = train_head(split, recipe, Run(seed, net_params or None), [features.shape[1]])
    layer = net.module_.output
    return net, count_epochs(net.history), layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()


def changed(recipe, **values):
    return Recipe(**(vars(recipe) | values))


@settings(max_examples=20)
@example(n=2, n_outputs=1, n_features=20_000)
@given(n=st.integers(1, 5), n_outputs=st.integers(1, 3), n_features=st.sampled_from([1, 7, 8192, 8193, 20_000]))
def test_outputs_of_a_row_do_not_depend_on_other_rows(n, n_outputs, n_features):
    """Einsum sums in blocks of 8,192 numbers, except if all of them are one vector."""
    rng, layer = np.random.default_rng(0), OutputLayer(n_features, n_outputs).double()
    for parameter in layer.parameters():
        parameter.data = torch.from_numpy(rng.normal(size=parameter.shape))
    features = rng.normal(size=(n, n_features)).astype(np.float32)
    alone = [output_values(layer, features[i : i + 1]) for i in range(n)]
    assert_array_equal(output_values(layer, features), np.concatenate(alone))


def test_lbfgs_finds_what_logistic_regression_finds():
    """The same objective: C is 1 / (n * weight_decay)."""
    _, _, weight, bias = train(changed(LBFGS, shrinkage=0.0))
    features = FEATURES.astype(np.float64)
    scaled = StandardScaler().fit_transform(features)
    reference = LogisticRegression(C=1 / (90 * 0.1), tol=1e-10, max_iter=10_000).fit(scaled, CODES)
    assert_allclose(log_softmax(features @ weight.T + bias, axis=1), reference.predict_log_proba(scaled), atol=1e-4)


def test_the_folded_layer_takes_raw_features():
    """The loss of the last iteration of a full-batch training is that of the folded layer on raw features."""
    net, _, weight, bias = train(changed(LBFGS, weight_decay=1e-3, shrinkage=0.0))
    logits = FEATURES.astype(np.float64) @ weight.T + bias
    loss = -log_softmax(logits, axis=1)[np.arange(90), CODES].mean()
    assert loss < 0.75 * -np.log(1 / 3)
    scale = FEATURES.astype(np.float64).std(axis=0)
    penalty = 1e-3 / 2 * ((weight * scale) ** 2).sum()
    net.module_.output.weight.data.mul_(torch.from_numpy(scale))  # back to standardised features
    net.module_.output.bias.data.copy_(torch.from_numpy(bias + weight @ FEATURES.astype(np.float64).mean(axis=0)))
    dataset = StandardizedFeatures(LABELED, np.arange(3), Standardization.of(FEATURES, ONES, 0.0, [6]))
    inputs, targets = dataset.all_rows()
    found = net.get_loss(net.module_(inputs), targets)
    assert_allclose(float(found.detach()), loss + penalty, rtol=1e-6)


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_losses_of_parts_add_up_to_the_loss_of_the_whole(sizes, seed):
    """Gradients over micro-batches may be summed, also with weights and smoothing; a weighted mean does not add up."""
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    logits = torch.from_numpy(rng.normal(size=(n, 3)))
    codes, weights = torch.from_numpy(rng.integers(0, 3, n)), torch.from_numpy(rng.uniform(0.1, 5, n))
    net = WeightedNet(
        OutputLayer, module__in_features=2, module__out_features=3, criterion=torch.nn.CrossEntropyLoss,
        criterion__reduction="none", criterion__label_smoothing=0.1, loss_scale=1 / float(weights.sum()), verbose=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        net.initialize()
    whole = net.get_loss(logits, (codes, weights))
    parts = [
        net.get_loss(part, (part_codes, part_weights))
        for part, part_codes, part_weights in zip(
            logits.split(sizes), codes.split(sizes), weights.split(sizes), strict=True
        )
    ]
    assert_allclose(float(sum(parts)), float(whole), rtol=1e-12)


@settings(max_examples=10)
@given(shift=st.floats(-100, 100), log_scale=st.floats(-3, 3))
def test_shifting_and_scaling_the_features_changes_nothing(shift, log_scale):
    _, _, weight, bias = train()
    moved = (FEATURES.astype(np.float64) * 10**log_scale + shift).astype(np.float32)
    _, _, other_weight, other_bias = train(features=moved)
    assert_allclose(moved @ other_weight.T + other_bias, FEATURES @ weight.T + bias, atol=0.05)


def test_constant_features_get_no_say_and_no_nan():
    features = FEATURES.copy()
    features[:, 2] = 7.7
    _, _, weight, bias = train(features=features)
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()
    assert np.abs(weight[:, 2]).max() < 0.01


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", torch.optim.RMSprop])
def test_optimizers_learn_and_report_their_epochs(optimizer):
    net, n_iter, weight, bias = train(changed(SGD, optimizer=optimizer, lr=0.01, max_epochs=30))
    assert n_iter == 30
    assert len(net.history) == 30
    assert net.history[-1, "train_loss"] < net.history[0, "train_loss"]
    assert ((FEATURES @ weight.T + bias).argmax(axis=1) == CODES).mean() > 0.6


def test_lbfgs_stops_by_itself_and_reports_its_iterations():
    net, n_iter, _, _ = train(LBFGS)
    assert 3 < n_iter < 200
    assert net.history[-1, "train_loss"] < 1.0 < np.log(3)
    with pytest.warns(ConvergenceWarning, match="did not converge in 3 iterations.*max_epochs=3"):
        assert train(changed(LBFGS, max_epochs=3))[1] == 3


def test_the_cosine_schedule_ends_near_zero_and_the_constant_one_does_not():
    rates = {}
    for schedule in ("cosine", "constant"):
        net, *_ = train(changed(SGD, lr_schedule=schedule))
        rates[schedule] = net.optimizer_.param_groups[0]["lr"]
    assert rates["constant"] == 0.05
    assert rates["cosine"] < 0.001


@given(
    n_steps=st.integers(1, 60), share=st.floats(0, 0.9), rates=st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=3)
)
def test_the_cosine_schedule_sets_the_rates_of_torch_s_own(n_steps, share, rates):
    schedule = CosineSchedule(n_steps, int(n_steps * share))
    mine, torchs = (
        torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates]) for _ in range(2)
    )
    reference = LambdaLR(torchs, schedule.factor)
    net = type("Net", (), {"optimizer_": mine, "history": History([{"batches": [{}]}])})
    schedule.on_train_begin(net)
    for _ in range(n_steps + 1):
        assert [group["lr"] for group in mine.param_groups] == [group["lr"] for group in torchs.param_groups]
        expected = reference.get_last_lr()[0]
        schedule.on_batch_end(net, training=True)
        assert net.history[-1, "batches", -1, "event_lr"] == expected
        schedule.on_batch_end(net, training=False)
        torchs.step()
        reference.step()


def test_weight_decay_spares_the_intercept():
    net, *_ = train(changed(SGD, weight_decay=0.3))
    decays = {id(p): group["weight_decay"] for group in net.optimizer_.param_groups for p in group["params"]}
    assert decays[id(net.module_.output.weight)] == 0.3
    assert decays[id(net.module_.output.bias)] == 0.0


def test_smoothing_and_dropout_make_the_layer_less_sure():
    long = changed(SGD, max_epochs=50, weight_decay=0.0)
    _, _, weight, _ = train(long)
    _, _, smoothed, _ = train(changed(long, label_smoothing=0.3))
    _, _, dropped, _ = train(changed(long, dropout=0.5))
    assert np.linalg.norm(smoothed) < np.linalg.norm(weight)
    assert np.linalg.norm(dropped) < np.linalg.norm(weight)


@given(
    n=st.integers(1, 20),
    n_classes=st.integers(2, 9),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    seed=st.integers(0, 99),
)
def test_the_loss_and_its_derivatives_are_those_of_autograd(n, n_classes, smoothing, scale, seed):
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(scale * rng.normal(size=(n, n_classes))).requires_grad_()
    codes, weights = torch.from_numpy(rng.integers(0, n_classes, n)), torch.from_numpy(rng.uniform(0, 3, n))
    losses = torch.nn.functional.cross_entropy(logits, codes, reduction="none", label_smoothing=smoothing)
    (expected,) = torch.autograd.grad((losses * weights).sum(), logits, create_graph=True)
    loss, slopes, curvatures = CrossEntropy(smoothing).derivatives(logits.detach(), codes, weights)
    assert_allclose(loss, (losses * weights).sum().detach(), rtol=1e-12)
    assert_allclose(slopes, expected.detach(), rtol=1e-12, atol=1e-14)
    for k in range(n_classes):
        (second,) = torch.autograd.grad(expected[:, k].sum(), logits, retain_graph=True)
        assert_allclose(curvatures[k], second[:, k].sum(), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("recipe", [SGD, changed(SGD, label_smoothing=0.2, dropout=0.3), LBFGS], ids=str)
def test_the_gradients_of_a_step_are_those_of_the_loss_that_the_net_reports(recipe):
    """By autograd through the module, with the same dropout: what callbacks see is what the optimizer gets."""
    differences = []

    class Compare(Callback):
        def on_grad_computed(self, net, named_parameters, batch, training, **kwargs):
            assert training
            features, targets = batch
            net.module_.n_draws -= 1
            loss = net.get_loss(net.module_(features), targets)
            names, parameters = zip(*named_parameters, strict=True)
            net.module_.n_draws += not recipe.dropout
            assert names == ("output.weight", "output.bias")
            expected = torch.autograd.grad(loss, parameters)
            differences.extend((p.grad - g).abs().max().item() for p, g in zip(parameters, expected, strict=True))

    train(recipe, weights=RNG.uniform(0.1, 2, 90), callbacks=[Compare()])
    assert len(differences) >= 2 * 5
    assert max(differences) < 1e-14


def test_callbacks_are_told_of_each_batch_and_change_no_bit():
    calls = []

    class Listener(Callback):
        def on_batch_begin(self, net, batch, training, **kwargs):
            calls.append(("begin", training, len(net.history[-1]["batches"]), len(batch[0]), kwargs))

        def on_grad_computed(self, net, named_parameters, batch, training, **kwargs):
            calls.append(("gradients", training, [name for name, _ in named_parameters], len(batch[0]), kwargs))

        def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
            assert torch.isfinite(loss)
            calls.append(("end", training, y_pred.shape, len(batch[1][0]), kwargs))

    _, _, weight, bias = train(callbacks=[Listener()])
    _, _, expected_weight, expected_bias = train()
    assert_array_equal(weight, expected_weight)
    assert_array_equal(bias, expected_bias)
    assert len(calls) == 3 * 6 * 10
    names = ["output.weight", "output.bias"]
    assert calls[:3] == [("begin", True, 1, 16, {}), ("gradients", True, names, 16, {}), ("end", True, (16, 3), 16, {})]
    assert calls[15:18] == [
        ("begin", True, 6, 10, {}), ("gradients", True, names, 10, {}), ("end", True, (10, 3), 10, {}),
    ]  # fmt: skip


def test_the_history_has_a_row_per_epoch_and_one_per_batch():
    targets = ClassTargets(np.arange(3), CODES[:40], ONES[:40])
    whole = Labeled(FEATURES, ClassTargets(np.arange(3), CODES, ONES))
    net = train_head(Split(whole, Labeled(FEATURES[:40], targets)), SGD, Run(0), [6])
    losses = ("train_loss", "train_loss_best", "valid_loss", "valid_loss_best", "valid_loss_near_best")
    start, *rows = net.history
    assert set(start) == {"batches", "epoch", "valid_loss", "valid_loss_best"}
    for row in rows:
        assert set(row) == {"batches", "epoch", "dur", "train_batch_count", "valid_batch_count", *losses}
        assert [set(batch) for batch in row["batches"]] == [{"train_loss", "train_batch_size", "event_lr"}] * 6 + [
            {"valid_loss", "valid_batch_size"}
        ]
        training = row["batches"][:6]
        total = sum(batch["train_loss"] * batch["train_batch_size"] for batch in training)
        assert_allclose(row["train_loss"], total / 90, rtol=1e-12)
    assert net.history[:, "epoch"] == list(range(11))
    plain = History(net.history)
    for index in (0, -1, slice(2, 4), (3, "train_loss"), (slice(1, None), "batches", -1, "valid_loss")):
        assert net.history[index] == plain[index]


def test_schedules_and_freezing_of_skorch_do_what_they_say():
    halving = LRScheduler("StepLR", step_size=1, gamma=0.5, step_every="epoch")
    net, *_ = train(changed(SGD, lr_schedule="constant"), callbacks=[halving])
    assert net.history[:, "event_lr"] == [0.05 * 0.5**epoch for epoch in range(10)]
    net, *_ = train(callbacks=[Freezer("output.weight")])
    assert net.module_.output.weight.grad is None
    assert net.module_.output.bias.grad is not None


@pytest.mark.parametrize("batch_size", [16, None])
def test_features_standardised_batch_by_batch_give_the_bits_of_those_standardised_at_once(monkeypatch, batch_size):
    recipe = changed(SGD, batch_size=batch_size)
    _, _, weight, bias = train(recipe)
    monkeypatch.setattr(_inputs, "_MAX_BYTES", 0)
    dataset = StandardizedFeatures(LABELED, np.arange(3), Standardization.identity(6))
    assert dataset.standardized is None
    _, _, other_weight, other_bias = train(recipe)
    assert_array_equal(other_weight, weight)
    assert_array_equal(other_bias, bias)


def test_the_start_is_random_and_small():
    starts = []

    class Start(Callback):
        def on_train_begin(self, net, **kwargs):
            starts.append(net.module_.output.weight.detach().clone().numpy())

    for seed in (0, 0, 1):
        # A callback must survive deepcopy in the estimator; here it is passed as it is.
        train(seed=seed, callbacks=[("start", Start())])
    assert_array_equal(starts[0], starts[1])
    assert not np.array_equal(starts[0], starts[2])
    assert 0 < np.abs(starts[0]).max() <= 0.01 / np.sqrt(6)


def test_early_stopping_of_skorch_ends_the_training_without_an_error():
    stop = EarlyStopping(monitor="train_loss", patience=1, threshold=10.0, threshold_mode="abs")
    net, n_iter, *_ = train(callbacks=[stop])
    assert n_iter == len(net.history) < 10


def test_a_real_keyboard_interrupt_is_raised():
    class CtrlC(Callback):
        def on_batch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(callbacks=[CtrlC()])


def test_a_loss_that_is_not_finite_is_named():
    with pytest.raises(TrainingError, match=r"epoch \d+, batch \d+\. Lower lr=1e\+200, "):
        train(changed(SGD, lr=1e200, lr_schedule="constant"))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_easy_classes_reach_the_optimum_with_a_weak_penalty_in_float32(monkeypatch, seed):
    """The outputs of easy classes saturate; their second derivatives, rounded to 0, must not be divided by."""
    rng = np.random.default_rng(seed)
    codes = rng.choice(40, 300, p=rng.dirichlet(np.full(40, 0.5)))
    codes[:40] = np.arange(40)
    features = rng.normal(size=(300, 500)) + 30 * rng.normal(size=(40, 500))[codes] * rng.random(500) ** 6
    features = (features * np.exp(rng.normal(size=500))).astype(np.float32)
    labeled = Labeled(features, ClassTargets(np.arange(40), codes, np.ones(300)))
    losses = []
    for most_in_float64 in (0, 2**30):
        monkeypatch.setattr("sktl._head.train_head._MOST_IN_FLOAT64", most_in_float64)
        net = train_head(Split(labeled), changed(LBFGS, weight_decay=1e-5), Run(0), [500])
        losses.append(float(net.history[-1]["train_loss"]))
    assert_allclose(*losses, rtol=0.01)


@pytest.mark.parametrize(
    "key",
    ["module", "module__dropout", "criterion", "optimizer", "optimizer__weight_decay", "batch_size", "l2", "typo"],
)
def test_arguments_that_sktl_sets_are_refused(key):
    with pytest.raises(InvalidParameterError, match=f"{key}.*unknown, or set by sktl"):
        check_net_params({key: 1})


def test_other_arguments_reach_the_net():
    net, *_ = train(optimizer__momentum=0.5)
    assert net.optimizer_.param_groups[0]["momentum"] == 0.5


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_foreach_implementation_takes_the_place_of_the_fused_one(optimizer):
    recipe = changed(SGD, optimizer=optimizer)
    net, _, weight, _ = train(recipe, optimizer__foreach=True)
    assert net.optimizer_.param_groups[0]["foreach"] is True
    assert_allclose(weight, train(recipe)[2], rtol=1e-9)


def test_a_net_survives_a_pickle():
    net, *_ = train(changed(SGD, dropout=0.2))
    restored = pickle.loads(pickle.dumps(net))
    assert_array_equal(restored.module_.output.weight.detach(), net.module_.output.weight.detach())


@pytest.mark.parametrize("callbacks", ["disable", "x", ["x"], [("name", 3)], Callback()])
def test_callbacks_are_a_list_of_callbacks(callbacks):
    with pytest.raises(InvalidParameterError, match="must be a list of skorch callbacks"):
        check_net_params({"callbacks": callbacks})


def test_the_history_has_the_mean_loss_of_an_epoch_also_with_a_short_last_batch():
    net, *_ = train(changed(SGD, lr=1e-12, max_epochs=1, batch_size=80, lr_schedule="constant", weight_decay=0.0))
    assert_allclose(net.history[-1, "train_loss"], np.log(3), atol=0.02)


def test_a_trained_net_keeps_no_state_of_the_optimizer():
    for recipe in (SGD, LBFGS):
        assert len(pickle.dumps(train(recipe)[0])) < 30_000
