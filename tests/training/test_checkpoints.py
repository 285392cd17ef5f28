"""A fit that was killed goes on where it was, ends with the same bits, and is never taken for another."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from backbones import StochasticNet, small_conv_net
from pickles import Plant
from processes import ROOTS, Child, needs_fork, results
from representatives import slow_except
from sklearn.model_selection import GridSearchCV

from sktl import PretrainedImageClassifier
from sktl._features import trunk_pass as _pass
from sktl._features.extractor import FeatureExtractor
from sktl._storage import model_file as _model_file
from sktl._training import checkpoints as _checkpoints
from sktl._training.checkpoints import SaveState
from sktl._training.skorch_net import WeightedNet
from sktl.exceptions import CheckpointError, CheckpointWarning, InvalidParameterError

X = np.random.default_rng(5).integers(0, 256, (24, 16, 16, 3), np.uint8)
Y = np.array(["a", "b", "c"])[np.arange(24) % 3]


def stochastic_net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return StochasticNet()


STAGES = {"backbone": stochastic_net, "trainable_stages": 2, "freeze_epochs": 3, "max_epochs": 4, "batch_size": 7}
FITS = {
    "output layer": {"backbone": small_conv_net, "max_epochs": 6, "batch_size": 5},
    "output layer, dropout": {"backbone": small_conv_net, "max_epochs": 6, "dropout": 0.3, "optimizer": "adamw"},
    "output layer, early stopping": {
        "backbone": small_conv_net, "max_epochs": 9, "early_stopping": True, "validation_fraction": 0.25,
        "n_iter_no_change": 2, "lr": 0.5,
    },
    "stages": STAGES,
    "stages, features of two": STAGES | {"feature_stages": 2},
    "stages, adamw": STAGES | {"optimizer": "adamw", "mixup_alpha": 0.3},
    "stages, kept activations": STAGES | {"augmentation": None, "dropout": 0.2},
    "stages, early stopping": STAGES | {
        "early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 2, "lr": 0.3, "max_epochs": 8,
    },
    "stages, early stopping, the start returned": STAGES | {
        "early_stopping": True, "validation_fraction": 0.25, "n_iter_no_change": 2, "backbone_lr_ratio": 1e3,
    },
    "from scratch": {"backbone": small_conv_net, "weights": None, "trainable_stages": "all", "max_epochs": 5},
    "lbfgs": {"backbone": small_conv_net, "optimizer": "lbfgs"},
}  # fmt: skip


def classifier(name, checkpoint, **parameters):
    defaults = {"random_state": 0, "n_jobs": 1, "checkpoint": checkpoint, "engine": "torch"}
    return PretrainedImageClassifier(**defaults | FITS[name] | parameters)


def outcome(clf):
    """All that a fit decides, without the times that it took."""
    rows = [{key: value for key, value in row.items() if key not in ("dur", "batches")} for row in clf.history_]
    return clf.decision_function(X).tobytes(), rows, clf.n_iter_


@pytest.fixture
def epochs(monkeypatch):
    """Count the epochs that are trained."""
    counted = []
    train = WeightedNet.run_single_epoch

    def run_single_epoch(self, iterator, training, *args, **kwargs):
        if training:
            counted.append(1)
        return train(self, iterator, training, *args, **kwargs)

    monkeypatch.setattr(WeightedNet, "run_single_epoch", run_single_epoch)
    return counted


# One of each phase, and of each state that is kept: of generators, of optimizers, of what was best so far.
ALWAYS = [
    "output layer, dropout", "output layer, early stopping", "lbfgs", "stages", "stages, early stopping",
]  # fmt: skip


@pytest.mark.parametrize("name", slow_except(FITS, *ALWAYS, thorough=[ALWAYS[0], ALWAYS[-1]]))
def test_wherever_it_is_interrupted_it_ends_with_the_same_bits_in_as_many_epochs(tmp_path, epochs, monkeypatch, name):
    expected = outcome(classifier(name, None).fit(X, Y))
    n_epochs = len(epochs)
    assert outcome(classifier(name, tmp_path / "whole").fit(X, Y)) == expected
    assert len(epochs) == 2 * n_epochs
    keep = SaveState.on_epoch_end

    class InterruptionError(Exception):
        pass

    def interrupted(self, net, **kwargs):
        keep(self, net, **kwargs)
        raise InterruptionError

    # Interrupted after each of its epochs, one after the other.
    epochs.clear()
    monkeypatch.setattr(SaveState, "on_epoch_end", interrupted)
    for _ in range(40):
        try:
            found = classifier(name, tmp_path / "parts").fit(X, Y)
            break
        except InterruptionError:
            continue
    assert outcome(found) == expected
    stopped_early = sum(phase in name for phase in ("early",)) * 2
    assert n_epochs <= len(epochs) <= n_epochs + stopped_early
    monkeypatch.undo()


@pytest.mark.thorough
def test_what_has_finished_is_not_trained_again_and_folds_and_candidates_lie_side_by_side(tmp_path, epochs):
    grid = {"lr": [0.01, 0.1], "weight_decay": [0.01, 0.1]}
    scores = []
    for _ in range(2):
        clf = classifier("output layer", os.fspath(tmp_path))
        search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, Y)
        scores.append((list(search.cv_results_["mean_test_score"]), outcome(search.best_estimator_)))
        assert len(list(tmp_path.glob("*.checkpoint"))) == 9
        assert len(epochs) == 9 * 6
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    "change", [{"lr": 0.02}, {"random_state": 1}, {"dropout": 0.1}, {"max_epochs": 5}, {"class_weight": "balanced"}]
)
def test_another_fit_has_another_file(tmp_path, change):
    weights = np.linspace(1, 2, 24)
    for parameters in ({}, change):
        expected = outcome(classifier("output layer", None, **parameters).fit(X, Y, weights))
        assert outcome(classifier("output layer", tmp_path, **parameters).fit(X, Y, weights)) == expected
    assert len(list(tmp_path.glob("*.checkpoint"))) == 2
    classifier("output layer", tmp_path).fit(X[::-1].copy(), Y, weights)
    classifier("output layer", tmp_path).fit(X, Y[::-1], weights)
    classifier("output layer", tmp_path).fit(X, Y)
    assert len(list(tmp_path.glob("*.checkpoint"))) == 5


@pytest.mark.thorough
def test_what_is_chosen_and_what_is_given_have_files_of_their_own(tmp_path):
    given = [{}, {"feature_stages": 1}, {"feature_stages": 2}, {"weight_decay": 0.03}]
    for parameters in given:
        parameters = {"freeze_epochs": "auto", "max_epochs": 1, "augmentation": None} | parameters
        expected = outcome(classifier("stages", None, **parameters).fit(X, Y))
        assert outcome(classifier("stages", tmp_path, **parameters).fit(X, Y)) == expected
    assert len(list(tmp_path.glob("*.checkpoint"))) == len(given)


def test_a_renamed_file_is_refused_unread_and_the_difference_named(tmp_path, monkeypatch):
    for lr in (0.01, 0.02):
        classifier("output layer", tmp_path / str(lr), lr=lr).fit(X, Y)
    (one,), (other,) = ((tmp_path / lr).glob("*.checkpoint") for lr in ("0.01", "0.02"))
    os.replace(one, other)
    monkeypatch.setattr(_model_file.ModelFile, "read_all", None)
    with pytest.raises(CheckpointError, match=r"belongs to another fit: recipe of lr is 0\.01 in the file"):
        classifier("output layer", tmp_path / "0.02", lr=0.02).fit(X, Y)
    _model_file.write_model(other, {"header": {"data": "a" * 10**6}}, {})
    with pytest.raises(CheckpointError, match=r"data is 'aaa.*\(1000002 characters\) in the file") as caught:
        classifier("output layer", tmp_path / "0.02", lr=0.02).fit(X, Y)
    assert len(str(caught.value)) < 2_000


@pytest.mark.thorough
def test_a_damaged_file_is_refused_and_a_pickle_runs_nothing(tmp_path):
    clf = classifier("stages", tmp_path).fit(X, Y)
    marker = tmp_path / "marker"
    for file in tmp_path.glob("*.checkpoint"):
        good = file.read_bytes()
        plant = pickle.dumps(Plant(str(marker)))
        for content in (good[:-1], good[:100], b"", plant, good[:-9] + bytes([good[-9] ^ 1]) + good[-8:]):
            file.write_bytes(content)
            with pytest.raises(CheckpointError, match=r"is damaged, or not an sktl model.*Delete it"):
                classifier("stages", tmp_path).fit(X, Y)
        file.write_bytes(good)
    assert not marker.exists()
    assert outcome(classifier("stages", tmp_path).fit(X, Y)) == outcome(clf)


def _interrupted(folder, monkeypatch):
    """Leave the state after the first epoch of the stages, and return its file."""
    keep, count = SaveState.on_epoch_end, []

    def interrupted(self, net, **kwargs):
        keep(self, net, **kwargs)
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SaveState, "on_epoch_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            classifier("stages", folder).fit(X, Y)
    return next(path for path in folder.glob("*.checkpoint") if b"optimizer.0" in path.read_bytes())


@pytest.mark.parametrize("prefix", ["optimizer.", "module."])
@pytest.mark.parametrize("forge", [lambda t: t.flatten()[:1], lambda t: t.half(), lambda t: t[None]])
def test_tensors_of_other_shapes_never_reach_the_kernels(tmp_path, monkeypatch, prefix, forge):
    file = _interrupted(tmp_path, monkeypatch)
    with _model_file.open_model(file) as opened:
        document, tensors = opened.document, opened.read_all()
    name = next(name for name in sorted(tensors) if name.startswith(prefix) and tensors[name].ndim > 1)
    _model_file.write_model(file, document, tensors | {name: forge(tensors[name])})
    with pytest.raises(CheckpointError, match=r"does not fit this network: its tensors belong to another module"):
        classifier("stages", tmp_path).fit(X, Y)


def test_steps_are_counted_where_the_optimizer_counts_them():
    """A fused one on the device of its parameters, or its kernels refuse; others on the CPU."""
    parameter, step = torch.empty(3, device="meta"), torch.tensor(7.0)
    assert _checkpoints._laid_out_as(parameter, "step", step, counts_there=True).device.type == "meta"
    assert _checkpoints._laid_out_as(parameter, "step", step, counts_there=False) is step


def test_what_is_only_said_about_a_fit_does_not_make_it_another(tmp_path, epochs, capsys):
    expected = outcome(classifier("stages", tmp_path).fit(X, Y))
    n_epochs = len(epochs)
    assert outcome(classifier("stages", tmp_path, verbose=2, n_jobs=2).fit(X, Y)) == expected
    assert len(epochs) == n_epochs


def test_other_groups_choose_another_penalty_and_are_another_fit(tmp_path, epochs):
    groups = np.arange(24) // 4
    for _ in range(2):
        classifier("stages", tmp_path).fit(X, Y)
        n_epochs = len(epochs)
        classifier("stages", tmp_path).fit(X, Y, groups=groups)
    assert len(epochs) == n_epochs  # both are found
    files = len(list(tmp_path.glob("*.checkpoint")))
    classifier("stages", tmp_path).fit(X, Y, groups=groups % 3)
    assert len(list(tmp_path.glob("*.checkpoint"))) > files


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_states_are_for_their_owner_alone(tmp_path):
    classifier("stages", tmp_path).fit(X, Y)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.glob("*.checkpoint")} == {0o600}


def test_images_are_not_identified_for_states_that_are_not_saved(tmp_path, monkeypatch):
    monkeypatch.delattr(FeatureExtractor, "digest")
    classifier("lbfgs", tmp_path).fit(X, Y)
    with pytest.raises(AttributeError, match="digest"):
        classifier("output layer", tmp_path).fit(X, Y)


@pytest.mark.filterwarnings("error::sktl.exceptions.CacheWarning")  # before anything is computed
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "states"):
        with pytest.raises(InvalidParameterError, match=r"checkpoint='.*file.*' is a file.*Pass a folder"):
            classifier("output layer", place).fit(X, Y)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.filterwarnings("error::sktl.exceptions.CacheWarning", "error::sktl.exceptions.CheckpointWarning")
def test_states_are_read_again_from_a_folder_of_any_name(tmp_path, epochs):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    expected = outcome(classifier("output layer", folder).fit(X, Y))
    n_epochs = len(epochs)
    assert outcome(classifier("output layer", folder).fit(X, Y)) == expected
    assert len(epochs) == n_epochs


def test_a_path_that_is_no_folder_is_refused_by_fit_and_predict(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clf = classifier("output layer", None).fit(X, Y)
    for value in ("", "~nobody-of-this-name/run"):
        clf.set_params(checkpoint=value, cache="auto")
        for method in (clf.predict, lambda X: clf.fit(X, Y)):
            with pytest.raises(InvalidParameterError, match=r"^checkpoint='.*Pass "):
                method(X)
    assert not [*tmp_path.iterdir()]


@pytest.mark.thorough
def test_a_disk_that_is_full_is_a_warning(tmp_path, monkeypatch):
    expected = outcome(classifier("stages", None).fit(X, Y))

    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_checkpoints, "write_model", full)
    with pytest.warns(CheckpointWarning, match=r"cannot be written.*No space left.*Free disk space"):
        assert outcome(classifier("stages", tmp_path).fit(X, Y)) == expected


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"random_state": None}, "needs an integer random_state.*it is None. Pass an integer"),
        ({"random_state": np.random.RandomState(0)}, "needs an integer random_state"),
        ({"net_params": {"callbacks": []}}, "cannot keep the state of net_params="),
        ({"augmentation": lambda image: image}, "cannot keep the state of augmentation="),
    ],
)
def test_what_cannot_be_resumed_is_refused_beforehand(tmp_path, parameters, message):
    with pytest.raises(InvalidParameterError, match=f"^checkpoint=.* {message}"):
        classifier("stages", tmp_path / "new", **parameters).fit(X, Y)
    assert not (tmp_path / "new").exists()


# --------------------------------------------------------------------------------------------------------- killed


def _fit_and_die(folder, at, counts):
    """Fit in a forked process, and kill it at the event of this number; count the events if it survives."""
    events = 0

    def event():
        nonlocal events
        events += 1
        if events == at:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(module, name):
        function = getattr(module, name)

        def wrapped(*args, **kwargs):
            event()
            return function(*args, **kwargs)

        setattr(module, name, wrapped)

    before(_pass.Pass, "_compute")  # the pass over the trunk
    before(SaveState, "on_epoch_end")  # an epoch that is not kept yet
    before(_model_file.os, "fsync")  # a draft that is not whole
    before(_model_file.os, "replace")  # one that has not its name
    trained = 0
    train = WeightedNet.run_single_epoch

    def run_single_epoch(self, iterator, training, *args, **kwargs):
        nonlocal trained
        trained += training
        return train(self, iterator, training, *args, **kwargs)

    WeightedNet.run_single_epoch = run_single_epoch
    warnings.simplefilter("ignore")
    clf = classifier("stages", folder).fit(X, Y)
    return outcome(clf), trained, events if counts else None


def _killed_now_and_then(folder):
    _killed(folder, 5)


def _killed_everywhere(folder):
    _killed(folder, 20)


def _killed(folder, n_moments):
    expected, n_epochs, n_events = Child(_fit_and_die, folder / "whole", -1, True).result()
    assert n_epochs == 7
    moments = np.unique(np.linspace(1, n_events, n_moments).astype(int))
    assert len(moments) == n_moments
    fewer = 0
    for at in moments:
        place = folder / str(at)
        child = Child(_fit_and_die, place, int(at), False)
        assert child.read() == b""  # it died
        _, status = os.waitpid(child.pid, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        kept = len(list(place.glob("*.checkpoint"))) > 0
        found, trained, _ = Child(_fit_and_die, place, -1, True).result()
        assert found == expected
        assert trained < n_epochs if kept else trained == n_epochs
        fewer += trained < n_epochs
        assert not [path for path in place.iterdir() if path.name.startswith(".")]  # drafts of the dead
    assert fewer >= 0.6 * n_moments


def _at_once(folder):
    expected, _, _ = Child(_fit_and_die, folder / "alone", -1, False).result()
    children = [Child(_fit_and_die, folder / "both", -1, False) for _ in range(2)]
    assert [found for found, _, _ in results(children)] == [expected, expected]
    found, trained, _ = Child(_fit_and_die, folder / "both", -1, False).result()
    assert (found, trained) == (expected, 0)


@pytest.mark.thorough
@needs_fork
@pytest.mark.parametrize(
    "function", slow_except(["_killed_now_and_then", "_killed_everywhere", "_at_once"], "_killed_now_and_then")
)
def test_a_fit_killed_at_any_moment_or_shared_ends_with_the_same_bits_in_fewer_epochs(tmp_path, function):
    """In a process of its own: forks of one whose torch has trained would wait for threads that they have not."""
    program = f"import sys, pathlib, test_checkpoints as t; t.{function}(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], cwd=Path(__file__).parent, capture_output=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(ROOTS)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
