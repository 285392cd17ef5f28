"""Every public entry point works, or refuses at once, in a process forked from one that has used sktl and torch."""

import pickle
import signal

import matplotlib.pyplot  # noqa: F401 - the children need not import it one by one
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from click.testing import CliRunner
from processes import in_child, needs_fork
from sklearn.model_selection import GridSearchCV

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._cli.commands import main
from sktl._utils.devices import resolve_device
from sktl.datasets import load_image_folder, make_cats, make_leaves, make_radiographs, make_surface_defects
from sktl.exceptions import DeviceError, EngineError

pytestmark = needs_fork

X = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3)).astype(np.uint8)
Y = np.array(["ant", "bee"] * 4)
LABELS = np.array([[0, 1], [1, 1], [1, 0], [0, 0]] * 2)
_SECONDS = 120


class Parent:
    """What a process has used before it forks: threads of torch and OpenVINO, the cache, networks, estimators.

    The network is small, with weights in a file; its features do not matter here.
    """

    def __init__(self, folder):
        self.folder = folder
        weights = str(folder / "weights.safetensors")
        safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), weights)
        self.network = {"backbone": "timm/test_resnet", "weights": weights, "image_size": 32}
        self.options = [f"--{name.replace('_', '-')}={value}" for name, value in self.network.items()]
        torch.ones(4_000_000).clone().sum()  # in several threads of the calling thread
        self.head = self.classifier().fit(X, Y)
        self.stages = self.classifier(trainable_stages=1).fit(X, Y)
        self.whole = self.classifier(trainable_stages="all", engine="torch").fit(X, Y)
        self.encoder = self.new_encoder().fit(X)
        self.model = str(folder / "model.sktl")
        self.stages.save(self.model)
        sktl.load(self.model)
        for name in set(Y):
            (folder / "photos" / name).mkdir(parents=True)
            for i, image in enumerate(X[name == Y]):
                sktl._images.decoding.Image.fromarray(image).save(folder / "photos" / name / f"{i}.png")
        self.photos = str(folder / "photos")

    def classifier(self, **parameters):
        shared = {"max_epochs": 1, "freeze_epochs": 1, "n_jobs": 2, "random_state": 0}
        return PretrainedImageClassifier(**self.network | shared | parameters)

    def new_regressor(self):
        return PretrainedImageRegressor(**self.network, n_jobs=2, random_state=0)

    def new_encoder(self):
        return PretrainedImageEncoder(**self.network, n_jobs=2)


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    return Parent(tmp_path_factory.mktemp("fork"))


def _fit(parent, **parameters):
    return parent.classifier(**parameters).fit(X, Y).predict_proba(X).shape


def _search(parent):
    grid = GridSearchCV(parent.classifier(), {"trainable_stages": [0, 1]}, cv=2)
    return grid.fit(X, Y).predict(X).shape


def _run(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    assert result.exit_code == 0, result.output


ENTRY_POINTS = {
    "fit": lambda p: _fit(p),
    "fit, output layer by L-BFGS": lambda p: _fit(p, optimizer="lbfgs", freeze_epochs="auto", n_jobs=None),
    "fit, early stopping": lambda p: _fit(p, early_stopping=True, validation_fraction=0.25),
    "fit, a stage": lambda p: _fit(p, trainable_stages=1),
    "fit, a stage without augmentation": lambda p: _fit(p, trainable_stages=1, augmentation=None),
    "fit, all stages": lambda p: _fit(p, trainable_stages="all", n_jobs=None),
    "fit, from scratch": lambda p: _fit(p, trainable_stages="all", weights=None, freeze_epochs="auto"),
    "fit, bundled network": lambda p: PretrainedImageClassifier(image_size=32, max_epochs=1).fit(X, Y),
    "fit, torch": lambda p: _fit(p, engine="torch", image_size=40),
    "fit, several labels": lambda p: p.classifier().fit(X, LABELS).predict(255 - X),
    "fit, numbers": lambda p: p.new_regressor().fit(X, LABELS[:, 0] / 3).predict(255 - X),
    "typicality": lambda p: p.head.typicality(255 - X),
    "fit, other images": lambda p: p.classifier().fit(255 - X, Y).score(X, Y),
    "search": lambda p: _search(p),
    "predict": lambda p: p.head.predict(X),
    "predict, other images": lambda p: p.head.predict(255 - X),
    "predict_proba": lambda p: p.stages.predict_proba(255 - X),
    "predict_log_proba": lambda p: p.whole.predict_log_proba(255 - X),
    "decision_function": lambda p: p.stages.decision_function(X),
    "score": lambda p: p.whole.score(X, Y),
    "transform": lambda p: p.stages.transform(X),
    "encoder": lambda p: p.new_encoder().fit_transform(255 - X),
    "encoder.transform": lambda p: p.encoder.transform(255 - X),
    "module_": lambda p: p.stages.module_.state_dict(),
    "history_": lambda p: len(p.stages.history_),
    "backbone_": lambda p: (p.head.backbone_.stages, p.head.backbone_.build()),
    "pickle": lambda p: pickle.loads(pickle.dumps(p.stages)).predict(X),
    "save": lambda p: p.whole.save(p.folder / "child.sktl"),
    "load": lambda p: sktl.load(p.model).predict(255 - X),
    "check_images": lambda p: sktl.check_images([*X, b"no image"]),
    "audit_images": lambda p: sktl.audit_images(X, Y, estimator=p.classifier(), cv=2).to_html(p.folder / "audit.html"),
    "evaluation_report": lambda p: sktl.evaluation_report(p.head, X, Y).to_html(p.folder / "report.html"),
    "rank_backbones": lambda p: str(sktl.rank_backbones(X, Y, [p.network], cv=2)),
    "list_backbones": lambda p: len(sktl.list_backbones()),
    "cache_info": lambda p: sktl.cache_info(),
    "clear_cache": lambda p: sktl.clear_cache(p.folder / "cache"),
    "set_cache_limit": lambda p: sktl.set_cache_limit(1 << 20, p.folder / "cache"),
    "set_pixel_limit": lambda p: sktl.set_pixel_limit(1 << 20),
    "export": lambda p: sktl.export(p.stages, p.folder / "model.pt2"),
    "save_to_folder": lambda p: sktl.save_to_folder(p.stages, p.folder / "card"),
    "Preprocessing": lambda p: p.head.backbone_.preprocessing(sktl._images.decoding.Image.fromarray(X[0])).sum(),
    "TrainingCurveDisplay": lambda p: sktl.TrainingCurveDisplay.from_estimator(p.stages),
    "PredictionsDisplay": lambda p: sktl.PredictionsDisplay.from_estimator(p.stages, X, Y),
    "SaliencyDisplay": lambda p: sktl.SaliencyDisplay.from_estimator(p.stages, X[:2]),
    "FeatureMapDisplay": lambda p: sktl.FeatureMapDisplay.from_estimator(p.stages, X, Y),
    "datasets": lambda p: (
        load_image_folder(p.photos), make_cats(2), make_leaves(2), make_radiographs(2), make_surface_defects(2)
    ),
    "sktl fit": lambda p: _run("fit", p.photos, "-o", p.folder / "cli.sktl", *p.options),
    "sktl predict": lambda p: _run("predict", p.model, *load_image_folder(p.photos).data),
    "sktl evaluate": lambda p: _run("evaluate", p.model, p.photos),
    "sktl check": lambda p: _run("check", p.photos),
}  # fmt: skip
COVERED_OTHERWISE = {
    "PretrainedImageClassifier", "PretrainedImageRegressor", "PretrainedImageEncoder",  # by their methods
    "datasets",  # by its functions
    "exceptions", "__version__",
    "runtime",  # by tests of its own
    "BackboneInfo", "BackboneRanking", "CacheInfo", "EvaluationReport", "ExportReport", "ImageAudit", "RankedBackbone",
    "push_to_hub", "load_from_hub",  # `save_to_folder` and `load`, with a connection
}  # fmt: skip


def _alone(function, parent):
    """Run a function in a child that ends if it hangs."""

    def run():
        signal.alarm(_SECONDS)
        function(parent)
        return True

    return in_child(run)


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_works_in_a_forked_child(parent, name):
    assert _alone(ENTRY_POINTS[name], parent)


def test_every_public_name_is_tried():
    assert set(sktl.__all__) - set(ENTRY_POINTS) <= COVERED_OTHERWISE


def test_what_a_forked_child_computes_is_what_its_parent_computes(parent):
    def predictions():
        signal.alarm(_SECONDS)
        again = parent.classifier(trainable_stages=1).fit(X, Y)
        return again.predict_proba(X).tolist(), sktl.load(parent.model).predict_proba(X).tolist()

    expected = parent.stages.predict_proba(X)
    for found in in_child(predictions):
        np.testing.assert_allclose(found, expected, atol=1e-4)  # torch's features instead of OpenVINO's


def test_an_engine_that_cannot_be_used_in_a_forked_child_is_refused_at_once(parent):
    if parent.head.engine_ != "openvino":
        pytest.skip("OpenVINO is not installed")

    def refused():
        signal.alarm(_SECONDS)
        with pytest.raises(EngineError, match="forked"):
            parent.classifier(engine="openvino").fit(X, Y)
        return True

    assert in_child(refused)


def test_an_accelerator_that_the_parent_has_used_is_refused_in_a_forked_child(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    assert resolve_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match=r"forked.*spawn"):
        resolve_device("cuda")
