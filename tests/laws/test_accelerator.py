"""What holds on a real accelerator; elsewhere these tests are skipped.

A few of them run the bundled network, as its kernels are what people's fits run.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
import torch
from backbones import small_conv_net, stochastic_net
from sklearn.model_selection import GridSearchCV, cross_val_score

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._training.checkpoints import SaveState
from sktl._utils.devices import available_devices, computes_in_bfloat16
from sktl.exceptions import DeviceWarning

DEVICE = available_devices()[0]
pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="this machine has no accelerator")
rng = np.random.default_rng(0)
Y = np.repeat(["flat", "striped", "noisy"], 20)
FLAT = np.broadcast_to(rng.integers(0, 256, (20, 1, 1, 3)), (20, 48, 48, 3))
STRIPES = np.where(np.arange(48)[:, None, None] // 6 % 2, 220, 30) + rng.integers(-20, 20, (20, 1, 1, 3))
X = np.concatenate([FLAT, np.broadcast_to(STRIPES, (20, 48, 48, 3)), rng.integers(0, 256, (20, 48, 48, 3))]).astype(
    np.uint8
)
SMALL = {"random_state": 0, "max_epochs": 2, "cache": False}
STAGES = [
    {"trainable_stages": 0},
    {"trainable_stages": 1, "augmentation": None},
    {"trainable_stages": 2, "mixup_alpha": 0.3, "dropout": 0.2},
    {"trainable_stages": "all"},
    {"trainable_stages": "all", "weights": None},
]


def fitted(device=DEVICE, backbone=stochastic_net, **parameters):
    return PretrainedImageClassifier(backbone=backbone, device=device, **(SMALL | parameters)).fit(X, Y)


def test_features_are_nearly_those_of_the_cpu():
    here, there = (PretrainedImageEncoder(device=device, cache=False).fit_transform(X) for device in (DEVICE, "cpu"))
    scale = np.abs(there).max()
    assert np.abs(here - there).max() < 3e-2 * scale  # convolutions in TF32
    assert np.abs(here - there).mean() < 3e-3 * scale


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_depend_neither_on_neighbours_nor_on_the_run(precision):
    if precision == "bfloat16" and not computes_in_bfloat16(torch.device(DEVICE)):
        pytest.skip("this accelerator does not compute in bfloat16")
    encoder = PretrainedImageEncoder(device=DEVICE, precision=precision, cache=False, n_jobs=4).fit(X)
    expected, order = encoder.transform(X), np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(encoder.transform(X[order]), expected[order])
    np.testing.assert_array_equal(encoder.transform(X[:7]), expected[:7])


@pytest.mark.parametrize("parameters", STAGES)
def test_a_fit_agrees_with_that_of_the_cpu(parameters):
    if parameters.get("weights", "") is None:
        pytest.skip("from random weights two devices soon part")
    here, there = (fitted(device, amp=False, **parameters).predict_proba(X) for device in (DEVICE, "cpu"))
    assert np.abs(here - there).max() < 0.05


@pytest.mark.parametrize("parameters", STAGES)
def test_a_seeded_fit_repeats_nearly(parameters):
    here, there = (fitted(**parameters).predict_proba(X) for _ in range(2))
    assert np.abs(here - there).max() < 0.02


@pytest.mark.parametrize("stages", [0, 1, "all"])
def test_the_bundled_network_learns(stages):
    clf = PretrainedImageClassifier(trainable_stages=stages, device=DEVICE, random_state=0, cache=False).fit(X, Y)
    assert clf.score(X, Y) > 0.95
    assert np.isfinite([row["train_loss"] for row in clf.history_]).all()


def test_frozen_stages_are_bit_equal_after_a_fit():
    before = stochastic_net().state_dict()
    clf = fitted(trainable_stages=1)
    after = clf.module_.state_dict()
    frozen = [name for name in before if name.startswith(("stem", "blocks.0", "blocks.1"))]
    found = {name: next(v for key, v in after.items() if key.endswith(name)) for name in frozen}
    assert all(torch.equal(before[name], found[name]) for name in frozen)


def test_the_generators_are_left_alone():
    module = getattr(torch, DEVICE)
    before, on_device = torch.get_rng_state(), module.get_rng_state()
    fitted(trainable_stages=2, mixup_alpha=0.3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(module.get_rng_state(), on_device)


@pytest.mark.parametrize("amp", ["auto", False])
def test_mixed_precision_ends_where_full_precision_does(amp):
    clf = PretrainedImageClassifier(
        trainable_stages="all", device=DEVICE, random_state=0, cache=False, amp=amp, max_epochs=4
    ).fit(X, Y)
    assert clf.score(X, Y) > 0.95


def test_a_compiled_tail_ends_where_a_plain_one_does():
    plain, compiled = (
        fitted(trainable_stages=2, amp=False, augmentation=None, backbone=small_conv_net, compile=compile)
        for compile in (False, True)
    )
    assert np.abs(plain.predict_proba(X) - compiled.predict_proba(X)).max() < 0.02


@pytest.mark.parametrize("stages", [0, 1, "all"])
def test_a_pickle_and_a_saved_file_predict_on_a_machine_without_accelerator(tmp_path, stages):
    clf = PretrainedImageClassifier(
        trainable_stages=stages, device=DEVICE, random_state=0, cache=False, max_epochs=1
    ).fit(X, Y)
    expected = clf.predict_proba(X)
    joblib.dump(clf, tmp_path / "clf.pkl")
    clf.save(tmp_path / "clf.sktl")
    np.save(tmp_path / "X.npy", X)
    code = (
        "import joblib, numpy as np, sktl, sys, torch; folder = sys.argv[1]; assert not torch.cuda.is_available();"
        "clfs = joblib.load(folder + '/clf.pkl'), sktl.load(folder + '/clf.sktl');"
        "np.save(folder + '/p.npy', [clf.predict_proba(np.load(folder + '/X.npy')) for clf in clfs])"
    )
    hidden = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=hidden)
    for found in np.load(tmp_path / "p.npy"):
        assert np.abs(found - expected).max() < 0.02
    again = sktl.load(tmp_path / "clf.sktl", device=DEVICE)
    np.testing.assert_array_equal(again.predict_proba(X), expected)


def test_a_search_in_two_processes_agrees_with_one_in_this():
    clf = PretrainedImageClassifier(backbone=small_conv_net, device=DEVICE, random_state=0)
    grid = {"trainable_stages": [0, 1], "lr": [0.01, 0.03]}
    here, there = (GridSearchCV(clf, grid, cv=3, n_jobs=n_jobs).fit(X, Y) for n_jobs in (1, 2))
    # Last bits may differ, so that a sample at the border may.
    assert np.abs(here.cv_results_["mean_test_score"] - there.cv_results_["mean_test_score"]).max() < 0.05


def test_concurrent_fits_equal_sequential_ones():
    parameters = {"trainable_stages": 2, "mixup_alpha": 0.3}
    alone = [fitted(random_state=seed, **parameters).predict_proba(X) for seed in range(2)]
    at_once = joblib.Parallel(2, backend="threading")(
        joblib.delayed(fitted)(random_state=seed, **parameters) for seed in range(2)
    )
    for expected, clf in zip(alone, at_once, strict=True):
        assert np.abs(clf.predict_proba(X) - expected).max() < 0.02


class StoppedError(Exception):
    pass


def test_a_fit_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    parameters = {"trainable_stages": 1, "freeze_epochs": 3, "max_epochs": 4, "augmentation": None}
    expected, kept, keep = fitted(**parameters), [], SaveState.on_epoch_end

    def stop(self, net, **kwargs):
        keep(self, net, **kwargs)
        kept.append(net.history[-1]["epoch"])
        if len(kept) == 5:
            raise StoppedError

    monkeypatch.setattr(SaveState, "on_epoch_end", stop)
    with pytest.raises(StoppedError):
        fitted(checkpoint=tmp_path, **parameters)
    clf = fitted(checkpoint=tmp_path, **parameters)
    assert len(kept) == 7
    assert clf.n_iter_ == expected.n_iter_
    assert np.abs(clf.predict_proba(X) - expected.predict_proba(X)).max() < 0.02


@pytest.mark.skipif(DEVICE != "cuda", reason="only CUDA can be given less memory")
@pytest.mark.parametrize(("stages", "megabytes"), [(0, 260), ("all", 700)])
def test_where_memory_is_small_the_pass_and_training_take_fewer_images(stages, megabytes):
    """All but a few hundred MB are taken by somebody else."""
    code = f"""
import warnings, numpy as np, torch
from sktl import PretrainedImageClassifier
free, total = torch.cuda.mem_get_info()
torch.zeros(1, device="cuda"); torch.cuda.set_per_process_memory_fraction({megabytes}e6 / total)
X = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
clf = PretrainedImageClassifier(
    trainable_stages={stages!r}, device="cuda", random_state=0, cache=False, max_epochs=1, batch_size=32, image_size=320
)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    clf.fit(X, np.arange(40) % 2)
    print(sorted(set(w.category.__name__ for w in caught)), clf.predict_proba(X).sum())
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.startswith("['DeviceWarning']"), ran.stdout
    assert DeviceWarning.__name__ in ran.stdout


def test_the_estimator_holds_nothing_of_the_device():
    clf = fitted(trainable_stages=2)
    assert {parameter.device.type for parameter in clf.module_.parameters()} == {"cpu"}
    assert DEVICE.encode() not in pickle.dumps(copy.deepcopy(clf).module_)


def test_cross_validation_runs_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = cross_val_score(PretrainedImageClassifier(device=DEVICE, random_state=0), X, Y, cv=3)
    assert scores.min() > 0.9
