"""scikit-learn's callbacks hear of passes and epochs, in order, and change nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
from collections import Counter

import numpy as np
import pytest
from backbones import Pixels, small_conv_net, stochastic_net
from joblib import parallel_config
from representatives import slow_except
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback
from torch.optim import SGD

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._utils import fit_tasks as _callbacks
from sktl._utils import sklearn_compat
from sktl.exceptions import InvalidImageWarning, InvalidParameterError, TrainingError

pytestmark = pytest.mark.all_penalties  # some processes are not forked

SUPPORTED = importlib.util.find_spec("sklearn.callback") is not None
supported = pytest.mark.skipif(not SUPPORTED, reason="scikit-learn has callbacks from 1.9 on")

X = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
Y = np.tile(["cat", "dog"], 12)
PHASES = {"output layer", "stages"}


class Recorder:
    """Writes what it hears to a file, from whatever process, and asks to stop after some epochs of each training."""

    max_propagation_depth = None

    def __init__(self, file, enough=None):
        self.file = file
        self.enough = enough

    def setup(self, estimator, context):
        self._write("setup", context)

    def teardown(self, estimator, context):
        self._write("teardown", context)

    def on_fit_task_begin(self, estimator, context):
        self._write("begin", context)

    def on_fit_task_end(self, estimator, context):
        self._write("end", context)
        return context.task_name == "epoch" and context.task_id + 1 == self.enough

    def _write(self, event, context):
        path = []
        while context is not None:
            path.insert(0, (context.estimator_name, context.task_name, context.task_id))
            context = context.parent
        with open(self.file, "a") as file:
            file.write(json.dumps((os.getpid(), event, path)) + "\n")

    def heard(self):
        """Return (process, event, path) of all that was heard, then forget it."""
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        self.file.unlink()
        return [(process, event, tuple(map(tuple, path))) for process, event, path in lines]


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path / "heard")


def is_well_nested(events):
    """Tell whether each task of a process ends before the one in which it began, and after all that began in it."""
    under_way = []
    for event, path in events:
        if event == "begin":
            if under_way and path[:-1] != under_way[-1]:
                return False
            under_way.append(path)
        elif event == "end" and (not under_way or under_way.pop() != path):
            return False
    return not under_way


def count_epochs(events):
    """Return how many epochs were begun, by the phase and the path of their fit."""
    return Counter(
        (path[-2][1].removeprefix("epochs of the "), path[:-2])
        for event, path in events
        if event == "begin" and path[-1][1] == "epoch"
    )


def classifier(**params):
    common = {"backbone": stochastic_net, "random_state": 0, "engine": "torch", "freeze_epochs": 4, "max_epochs": 3}
    return PretrainedImageClassifier(**common | params)


KINDS = {
    "output layer": {"max_epochs": 7},
    "lbfgs": {"optimizer": "lbfgs", "max_epochs": 99},
    "early stopping": {"max_epochs": 60, "lr": 1.0, "early_stopping": True, "n_iter_no_change": 2},
    "activations": {"trainable_stages": 1, "augmentation": None},
    "pixels": {"trainable_stages": "all"},
    "views": {"trainable_stages": 2, "augmentation_views": 2, "augmentation": "light"},
    "no first phase": {"trainable_stages": 1, "freeze_epochs": 0},
    "both stop early": {
        "trainable_stages": 1, "freeze_epochs": 60, "max_epochs": 30, "lr": 1.0, "early_stopping": True,
        "n_iter_no_change": 2,
    },
    "scratch": {"weights": None, "trainable_stages": "all", "freeze_epochs": 0},
    "skipping": {"invalid_images": "skip"},
    "not cached": {"cache": False},
}  # fmt: skip


# Both phases, each with an end of its own, and passes with and without kept features.
ALWAYS = ["lbfgs", "early stopping", "activations", "views", "no first phase", "skipping", "not cached"]


@supported
@pytest.mark.parametrize("name", slow_except(KINDS, *ALWAYS))
def test_tasks_are_nested_epochs_are_those_of_the_history_and_no_bit_changes(name, recorder):
    params = KINDS[name]
    plain = classifier(**params).fit(X, Y)
    clf = classifier(**params).set_callbacks(recorder).fit(X, Y)
    processes, events, paths = zip(*recorder.heard(), strict=True)
    assert len({*processes}) == 1
    assert (events[0], events[-1]) == ("setup", "teardown")
    assert is_well_nested(zip(events, paths, strict=True))
    found = {phase: n for (phase, _), n in count_epochs(zip(events, paths, strict=True)).items()}
    default = "output layer" if clf.trainable_stages == 0 else None
    again = {phase: n for phase, n in found.items() if phase.endswith(" on all images")}
    assert bool(again) == (name == "both stop early")
    found = {phase: n for phase, n in found.items() if phase not in again}
    assert found == Counter(row.get("phase", default) for row in clf.history_ if "train_loss" in row)
    assert set(found) <= PHASES
    assert {path[1][1] for path in paths if len(path) > 1} <= {
        *(f"epochs of the {phase}" for phase in PHASES | {*again}), "features of images", "images checked",
    }  # fmt: skip
    np.testing.assert_array_equal(clf.decision_function(X), plain.decision_function(X))
    for key in ("train_loss", "valid_loss"):
        assert [row.get(key) for row in clf.history_] == [row.get(key) for row in plain.history_]


@supported
@pytest.mark.parametrize("n_images", slow_except([1, 3, 100, 101, 250], 1, 101))
def test_a_pass_is_heard_of_in_equal_parts_at_most_a_hundred(n_images, recorder):
    images = np.random.default_rng(n_images).integers(0, 256, (n_images, 8, 8), np.uint8)
    images[-1] = images[0]  # one that is seen once, and counts twice
    for _ in range(2):  # the second time all are kept
        PretrainedImageEncoder(backbone=Pixels).set_callbacks(recorder).fit_transform(images)
        events = [(event, path) for _, event, path in recorder.heard()]
        assert is_well_nested(events)
        ends = [path for event, path in events if event == "end"]
        assert [path[-1][1] for path in ends] == ["images"] * min(n_images, 100) + ["features of images", "fit"]


@supported
@pytest.mark.parametrize(
    ("n_jobs", "backend"),
    slow_except(
        [(1, "loky"), (2, "multiprocessing"), (2, "loky")],
        (1, "loky"),
        (2, "multiprocessing"),
        thorough=[(2, "multiprocessing")],
    ),
)
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_search_tells_of_all_its_fits_in_all_processes_and_finds_the_same(n_jobs, backend, recorder):
    grid = {"trainable_stages": [0, 1]}
    plain = GridSearchCV(classifier(augmentation=None), grid, cv=2).fit(X, Y)
    search = GridSearchCV(classifier(augmentation=None), grid, cv=2, n_jobs=n_jobs)
    with parallel_config(backend, n_jobs=n_jobs):
        search.set_callbacks(recorder).fit(X, Y)
    heard = recorder.heard()
    assert n_jobs > 1 or len({process for process, _, _ in heard}) == 1
    for process in {process for process, _, _ in heard}:
        assert is_well_nested([(event, path) for of, event, path in heard if of == process])
    events = [(event, path) for _, event, path in heard]
    fits = [path for event, path in events if event == "end" and path[-1][:2] == ("PretrainedImageClassifier", "fit")]
    assert len(fits) == len({*fits}) == 5  # two candidates, two folds, and the best again
    of_stages = {path: n for (phase, path), n in count_epochs(events).items() if phase == "stages"}
    of_head = {path: n for (phase, path), n in count_epochs(events).items() if phase == "output layer"}
    assert {*of_head} == {*fits}
    assert {*of_stages.values()} == {3}
    assert sorted(n for path, n in of_head.items() if path in of_stages) == [4] * len(of_stages)
    assert sorted(n for path, n in of_head.items() if path not in of_stages) == [3] * (5 - len(of_stages))
    for name in plain.cv_results_:
        if "time" not in name:
            np.testing.assert_array_equal(search.cv_results_[name], plain.cv_results_[name])
    np.testing.assert_array_equal(search.decision_function(X), plain.decision_function(X))
    assert vars(search.best_estimator_).keys() == vars(plain.best_estimator_).keys()


@supported
@pytest.mark.filterwarnings("error:The estimator .* does not support callbacks")
def test_a_pipeline_tells_of_the_pass_of_its_encoder(recorder):
    pipe = make_pipeline(PretrainedImageEncoder(backbone=small_conv_net), LogisticRegression())
    expected = clone(pipe).fit(X, Y).predict_proba(X)
    pipe.set_callbacks(recorder).fit(X, Y)
    events = [(event, path) for _, event, path in recorder.heard()]
    assert is_well_nested(events)
    of_encoder = [path for event, path in events if event == "end" and path[-1][0] == "PretrainedImageEncoder"]
    assert [path[-1][1] for path in of_encoder] == ["images"] * 24 + ["features of images", "fit"]
    np.testing.assert_array_equal(pipe.predict_proba(X), expected)


@pytest.mark.thorough
@supported
@pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
def test_a_fit_leaves_nothing_behind(recorder, tmp_path):
    plain = classifier(trainable_stages=1).fit(X, Y)
    clf = classifier(trainable_stages=1).set_callbacks(recorder).fit(X, Y)
    assert vars(clf).keys() - {"_skl_callbacks"} == vars(plain).keys()
    assert vars(clf.net_).keys() == vars(plain.net_).keys()
    assert _callbacks._current.get() is None
    recorder.heard()
    for other in (pickle.loads(pickle.dumps(clf)), clone(clf).fit(X, Y)):
        np.testing.assert_array_equal(other.decision_function(X), plain.decision_function(X))
    named = PretrainedImageClassifier(backbone="timm/test_vit", weights=None, image_size=64, max_epochs=2)
    named.set_params(random_state=0).set_callbacks(recorder).fit(X, Y)
    named.save(tmp_path / "model.sktl")
    loaded = sktl.load(tmp_path / "model.sktl")
    np.testing.assert_array_equal(loaded.decision_function(X), named.decision_function(X))
    recorder.heard()
    clf.predict(X)
    clf.set_callbacks().fit(X, Y)
    assert not recorder.file.exists()  # nor do predictions tell, or a fit without callbacks


@supported
@pytest.mark.parametrize(
    ("params", "error"),
    [({"optimizer": SGD, "lr": 1e200, "lr_schedule": "constant"}, TrainingError), ({"lr": -1}, InvalidParameterError)],
)
def test_a_fit_that_fails_takes_callbacks_down_and_changes_nothing_else(params, error, recorder):
    clf = classifier(**params).set_callbacks(recorder)
    before = dict(vars(clf))
    with pytest.raises(error):
        clf.fit(X, Y)
    assert vars(clf) == before
    assert _callbacks._current.get() is None
    if recorder.file.exists():
        events = [event for _, event, _ in recorder.heard()]
        assert (events[0], events[-1]) == ("setup", "teardown")


class Keeper(Recorder):
    """Takes what the end of a fit gives."""

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        if context.parent is None:
            self.given = X, y, metadata, fitted_estimator


@supported
def test_the_end_of_a_fit_gives_its_data_and_an_estimator_that_predicts(tmp_path):
    keeper = Keeper(tmp_path / "heard")
    weights = np.arange(24)
    clf = classifier().set_callbacks(keeper).fit(X, Y, weights)
    images, labels, metadata, fitted = keeper.given
    assert images is X
    assert labels is Y
    assert metadata["sample_weight"] is weights
    np.testing.assert_array_equal(fitted.decision_function(X), clf.decision_function(X))
    with pytest.warns(InvalidImageWarning):  # then no score of all of X is possible
        classifier(invalid_images="skip").set_callbacks(keeper).fit([*X, b"no image"], [*Y, "cat"])
    assert keeper.given[:3] == (None, None, None)


class OnAllImages(Recorder):
    """Asks to stop after the first epoch of stages on all images."""

    def on_fit_task_end(self, estimator, context):
        self._write("end", context)
        return context.task_name == "epoch" and context.parent.task_name == "epochs of the stages on all images"


@supported
def test_a_training_on_all_images_that_a_callback_ends_is_not_returned(tmp_path):
    params = dict(trainable_stages=1, early_stopping=True, validation_fraction=0.3, lr_schedule="constant")
    on_part = classifier(**params, net_params={"callbacks": [Callback()]}).fit(X, Y)
    recorder = OnAllImages(tmp_path / "heard")
    clf = classifier(**params).set_callbacks(recorder).fit(X, Y)
    ended = Counter(path[1][1] for _, event, path in recorder.heard() if (event, path[-1][1]) == ("end", "epoch"))
    assert ended["epochs of the stages on all images"] == 1
    np.testing.assert_array_equal(clf.decision_function(X), on_part.decision_function(X))


@supported
def test_a_callback_may_end_the_epochs_of_each_phase(tmp_path):
    recorder = Recorder(tmp_path / "heard", enough=2)
    clf = classifier(trainable_stages=1, checkpoint=tmp_path / "kept").set_callbacks(recorder).fit(X, Y)
    assert [row["phase"] for row in clf.history_] == ["output layer"] * 2 + ["stages"] * 2
    assert is_well_nested([(event, path) for _, event, path in recorder.heard()])
    # What was stopped is not taken for what was finished.
    whole = classifier(max_epochs=4).fit(X, Y)
    classifier(max_epochs=4, checkpoint=tmp_path / "kept").set_callbacks(recorder).fit(X, Y)
    resumed = classifier(max_epochs=4, checkpoint=tmp_path / "kept").fit(X, Y)
    np.testing.assert_array_equal(resumed.decision_function(X), whole.decision_function(X))


@pytest.mark.thorough
@supported
def test_progress_is_shown_once(recorder, capsys, monkeypatch):
    rich = pytest.importorskip("rich", reason="scikit-learn's progress bars are those of rich")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(rich, "_console", None)
    from sklearn.callback import ProgressBar

    clf = classifier(verbose=1, cache=False, trainable_stages=1)
    clf.set_callbacks(recorder).fit(X, Y)
    assert "features of images: 100%" in capsys.readouterr().err
    clf.set_callbacks(ProgressBar()).fit(X, Y)
    alone = "".join(capsys.readouterr())
    assert "features of images:" not in alone
    search = GridSearchCV(clf.set_callbacks(), {"max_epochs": [2, 3]}, cv=2).set_callbacks(ProgressBar()).fit(X, Y)
    within = "".join(capsys.readouterr())
    for name in ("features of images", "epochs of the output layer", "epochs of the stages"):
        assert alone.count(f"PretrainedImageClassifier - {name}") == 1
        assert within.count(f"PretrainedImageClassifier - {name}") == 5
    for estimator in (clf, search):
        pickle.loads(pickle.dumps(estimator)).predict(X)


def test_estimators_have_callbacks_where_scikit_learn_has_them():
    for cls in (PretrainedImageClassifier, PretrainedImageEncoder):
        assert hasattr(cls(), "set_callbacks") == SUPPORTED


def test_without_the_framework_a_fit_is_the_same(monkeypatch):
    expected = classifier().fit(X, Y).decision_function(X)
    monkeypatch.setattr(sklearn_compat, "_framework", None)
    np.testing.assert_array_equal(classifier().fit(X, Y).decision_function(X), expected)
