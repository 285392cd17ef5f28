"""What is published comes back to the bit from a hub on loopback, and what goes wrong there has a name and a remedy."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import traceback
from fractions import Fraction

import huggingface_hub.constants
import numpy as np
import pytest
import safetensors.torch
import timm
from hub_server import TOKEN, running_hub
from numpy.testing import assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.svm import SVC

import sktl
from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl.exceptions import DeviceError, HubRequestError, InvalidParameterError, MissingPackageError, ModelFileError

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (12, 20, 24, 3), np.uint8)
Y = np.array(["cat", "dog", "owl"])[np.arange(12) % 3]
TINY = {"backbone": "timm/test_vit", "weights": None, "image_size": 64, "random_state": 0, "max_epochs": 2}
REPO = "anna/cats"


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    """Set what huggingface_hub reads from the environment: HTTP alone, no stored token, no words about the machine."""
    for setting in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setattr(huggingface_hub.constants, setting, True)


@pytest.fixture(scope="module")
def clf():
    return PretrainedImageClassifier(**TINY, trainable_stages=1).fit(X, Y)


@pytest.fixture
def hub():
    with running_hub() as server:
        yield server


@pytest.fixture
def push(hub):
    def push(estimator, repo_id=REPO, **parameters):
        return sktl.push_to_hub(estimator, repo_id, **{"endpoint": hub.url, "token": TOKEN} | parameters)

    return push


@pytest.fixture
def fetch(hub, tmp_path):
    def fetch(repo_id=REPO, **parameters):
        return sktl.load_from_hub(repo_id, **{"endpoint": hub.url, "cache_dir": tmp_path / "cache"} | parameters)

    return fetch


# ---------------------------------------------------------------------------------------------------------- round trips


def test_a_local_file_of_weights_is_passed_when_a_model_is_fetched(hub, push, fetch, tmp_path):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), file)
    encoder = PretrainedImageEncoder(backbone="timm/test_resnet", weights=str(file), image_size=64).fit(X)
    push(encoder, include_backbone=False)
    _, files = hub.repositories[REPO].files("main")
    assert f'sktl.load_from_hub("{REPO}", weights="PATH")' in files["README.md"].decode()
    with pytest.raises(ModelFileError, match="pass its path as `weights`"):
        fetch()
    assert_array_equal(fetch(weights=file).transform(X), encoder.transform(X))


@pytest.mark.parametrize("include_backbone", [True, False])
def test_what_is_fetched_predicts_what_was_published(clf, hub, push, fetch, include_backbone):
    url = push(clf, include_backbone=include_backbone, commit_message="My cats")
    repository = hub.repositories[REPO]
    (commit,) = repository.commits
    assert url == f"{hub.url}/{REPO}/commit/{commit}"
    assert repository.messages == ["My cats"]
    assert sorted(repository.commits[commit]) == ["README.md", "model.safetensors"]
    assert not repository.private
    loaded = fetch(device="cpu")
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))
    assert_array_equal(loaded.class_count_, [4, 4, 4])
    assert loaded.device == "cpu"


@pytest.mark.thorough
def test_an_encoder_is_published_too(push, fetch, hub):
    encoder = PretrainedImageEncoder(backbone="timm/test_vit", weights=None, image_size=64, random_state=3).fit(X)
    push(encoder)
    assert_array_equal(fetch().transform(X), encoder.transform(X))
    with pytest.raises(InvalidParameterError, match="an encoder predicts nothing"):
        push(encoder, metrics={"accuracy": 1})


@pytest.mark.thorough
def test_several_labels_and_numbers_are_published_too(push, fetch):
    table = np.c_[np.arange(12) % 2, np.arange(12) % 3 == 0].astype(int)
    labels = PretrainedImageClassifier(**TINY).fit(X, table)
    push(labels, metrics={"f1": 0.5})
    assert_array_equal(fetch().predict_proba(X), labels.predict_proba(X))
    for y in (np.arange(12.0), table * 1.5):
        regressor = PretrainedImageRegressor(**TINY).fit(X, y)
        push(regressor, metrics={"r2": 0.5})
        assert_array_equal(fetch().predict(X), regressor.predict(X))


def test_each_push_is_a_commit_that_stays_to_be_had(clf, hub, push, fetch):
    other = PretrainedImageClassifier(**TINY).fit(X, Y)
    push(clf)
    push(other)
    first, second = hub.repositories[REPO].commits
    assert_array_equal(fetch(revision=first).decision_function(X), clf.decision_function(X))
    assert_array_equal(fetch(revision=second).decision_function(X), other.decision_function(X))
    assert_array_equal(fetch().decision_function(X), other.decision_function(X))


@pytest.mark.thorough
def test_a_file_is_fetched_once_and_is_there_without_the_hub(clf, hub, push, fetch):
    push(clf)
    fetch()
    fetch()
    assert [command for command, path, _ in hub.requests if "/resolve/" in path].count("GET") == 1
    hub.answer = (503, {})
    assert_array_equal(fetch().predict_proba(X), clf.predict_proba(X))


def test_a_private_repository_opens_to_its_token_alone(clf, hub, push, fetch):
    push(clf, private=True)
    assert hub.repositories[REPO].private
    for token in ("hf_another_token", False):
        with pytest.raises(HubRequestError, match="no such repository, or the token has no access to it") as caught:
            fetch(token=token)
        assert "hf_another" not in str(caught.value)
    assert_array_equal(fetch(token=TOKEN).predict_proba(X), clf.predict_proba(X))


def test_nothing_but_the_names_of_versions_is_told_beside_the_model(clf, hub, push, fetch):
    push(clf)
    fetch()
    agents = {headers["user-agent"].partition(";")[0] for _, _, headers in hub.requests if "user-agent" in headers}
    assert agents <= {"unknown/None"}, agents
    assert all("Authorization" not in headers for command, _, headers in hub.requests if command in ("HEAD", "GET"))


# --------------------------------------------------------------------------------------------------------- local folder


def test_a_folder_has_the_files_that_a_push_uploads(clf, hub, push, tmp_path):
    told = {"metrics": {"accuracy": 0.9}, "license": "mit", "description": "Cats."}
    push(clf, **told)
    (files,) = hub.repositories[REPO].commits.values()
    sktl.save_to_folder(clf, tmp_path / "new" / "folder", repo_id=REPO, **told)
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(files)
    assert (tmp_path / "new" / "folder" / "README.md").read_bytes() == files["README.md"]
    loaded = sktl.load(tmp_path / "new" / "folder" / "model.safetensors")
    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


@pytest.mark.parametrize("params", [{}, {"include_references": True}])
def test_nothing_of_single_images_is_published_unless_it_is_asked_for(tmp_path, params):
    head = PretrainedImageClassifier(image_size=32, random_state=0).fit(X, Y)
    sktl.save_to_folder(head, tmp_path / "new", **params)
    content = (tmp_path / "new" / "model.safetensors").read_bytes()
    assert (b"typicality" in content) == bool(params)


def test_a_folder_with_files_is_left_alone(clf, tmp_path):
    (tmp_path / "README.md").write_text("mine")
    for folder in (tmp_path, tmp_path / "README.md"):
        with pytest.raises(InvalidParameterError, match=r"is not (empty|a folder)"):
            sktl.save_to_folder(clf, folder)
    assert (tmp_path / "README.md").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


# ------------------------------------------------------------------------------------------ refused before a connection


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"repo_id": "cats"}, r"repo_id='cats' must be 'user/name'"),
        ({"repo_id": "a/b/c"}, "must be 'user/name'"),
        ({"repo_id": "anna/c--ts"}, "must be 'user/name'"),
        ({"repo_id": "anna/../ts"}, "must be 'user/name'"),
        ({"repo_id": None}, "must be 'user/name'"),
        ({"metrics": [0.9]}, "metrics must be a dict"),
        ({"metrics": {"accuracy": float("nan")}}, r"metrics\['accuracy'\] is nan: pass a finite number"),
        ({"metrics": {"accuracy": float("inf")}}, "finite"),
        ({"metrics": {"accuracy": "0.9"}}, "finite"),
        ({"metrics": {"accuracy": 10**400}}, "finite"),
        ({"metrics": {"accuracy": Fraction(10**5000)}}, "finite"),
        ({"metrics": {"accuracy": True}}, "finite"),
        ({"metrics": {"a\nb": 1.0}}, "use a name"),
        ({"metrics": {"": 1.0}}, "use a name"),
        ({"license": "mit\n---"}, "license=.* must be text in one line"),
        ({"license": 3}, "license=3 must be text"),
        ({"description": 3}, "description=3 must be text"),
        ({"private": "yes"}, r"private is a str\. Pass True, False or None"),
        ({"include_backbone": "no"}, r"include_backbone is a str\. Pass True or False"),
        ({"commit_message": ""}, "commit_message='' must be text"),
        ({"token": "hf_abc\n"}, "^token must be True"),
        ({"endpoint": "ftp://hub"}, "^endpoint must be like"),
        ({"endpoint": "https://anna:secret@hub"}, "^endpoint must be like"),
    ],
)
def test_illegal_values_are_refused_before_any_connection(clf, hub, push, parameters, message):
    with pytest.raises(InvalidParameterError, match=message) as caught:
        push(clf, **parameters)
    assert "hf_abc" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"cache_dir": 5}, InvalidParameterError, r"^cache_dir is 5\. Pass a path"),
        ({"cache_dir": ""}, InvalidParameterError, r"^cache_dir='' is not a path"),
        ({"device": "nope"}, DeviceError, "^device='nope' is unavailable"),
    ],
)
def test_where_to_is_checked_before_anything_is_fetched(hub, fetch, parameters, error, message):
    with pytest.raises(error, match=message):
        fetch(**parameters)
    assert hub.requests == []


@pytest.mark.parametrize("folder", [None, 5, "", b"x", ["x"], "~nobody\0"])
def test_what_is_no_folder_is_named(clf, folder):
    with pytest.raises(InvalidParameterError, match=r"^folder( is |=').*\. Pass a path\.$"):
        sktl.save_to_folder(clf, folder)


def test_what_save_refuses_is_refused_before_any_connection(clf, hub, push, tmp_path):
    with pytest.raises(NotFittedError):
        push(PretrainedImageClassifier())
    with pytest.raises(InvalidParameterError, match="estimator is a SVC"):
        push(SVC())
    unsaved = PretrainedImageClassifier(**TINY, trainable_stages=1, augmentation=lambda image: image).fit(X, Y)
    with pytest.raises(InvalidParameterError, match=r"augmentation=.* cannot be saved without code"):
        push(unsaved)
    with pytest.raises(InvalidParameterError, match=r"augmentation=.* cannot be saved without code"):
        sktl.save_to_folder(unsaved, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    assert hub.requests == []


# --------------------------------------------------------------------------------------------------- refused by the hub


def test_a_wrong_token_publishes_nothing_and_is_not_shown(clf, hub, push):
    token = "wrong" * 5
    with pytest.raises(HubRequestError, match=r"'anna/cats' could not be published: the token is missing or") as caught:
        push(clf, token=token)
    assert token not in "".join(traceback.format_exception(caught.value))
    assert hub.repositories == {}


def test_a_licence_that_the_hub_does_not_know_is_named(clf, push):
    with pytest.raises(HubRequestError, match='"license" must be one of a list'):
        push(clf, license="forbidden")


def test_what_a_repository_lacks_is_named(clf, hub, push, fetch):
    with pytest.raises(HubRequestError, match=r"^No model could be fetched from 'anna/dogs': there is no such reposit"):
        fetch("anna/dogs")
    push(clf)
    with pytest.raises(HubRequestError, match="it has no such revision"):
        fetch(revision="v2")
    hub.repositories["anna/empty"] = type(hub.repositories[REPO])(False)
    hub.repositories["anna/empty"].commit({"config.json": b"{}"})
    with pytest.raises(HubRequestError, match=r"it has no file model\.safetensors"):
        fetch("anna/empty")


@pytest.mark.parametrize("status", [403, 500])
def test_a_hub_that_fails_is_named_with_a_remedy(clf, hub, push, fetch, status):
    hub.answer = (status, {"X-Error-Message": f"quota, {TOKEN}"})
    for call in (lambda: push(clf), fetch):
        with pytest.raises(HubRequestError, match=r"Log in|the hub answered|the hub did not answer") as caught:
            call()
        assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_no_hub_at_all_is_named(clf, tmp_path, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(HubRequestError, match="Check the connection, the endpoint"):
        sktl.push_to_hub(clf, REPO, endpoint=endpoint, token=TOKEN)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:\d+ cannot be reached: .*Check the connection, the endpoint"):
        sktl.load_from_hub(REPO, endpoint=endpoint, cache_dir=tmp_path)
    assert not caplog.records  # its client would have asked six times, and told each time


class Evil:
    def __reduce__(self):
        return os.mkdir, ("marker",)


@pytest.mark.parametrize("kind", ["pickle", "damaged", "empty", "page"])
def test_a_file_that_is_no_model_is_refused_and_runs_nothing(clf, hub, push, fetch, tmp_path, monkeypatch, kind):
    push(clf)
    good = hub.repositories[REPO].files("main")[1]["model.safetensors"]
    bad = {
        "pickle": pickle.dumps(Evil()),
        "damaged": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:],
        "empty": b"",
        "page": b"<html>",
    }
    hub.repositories[REPO].commit({"model.safetensors": bad[kind]})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"models--anna--cats.*is damaged, or not an sktl model") as caught:
        fetch()
    assert "'anna/cats'" in caught.value.__notes__[0]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


# ------------------------------------------------------------------------------------------------------------ the extra


def test_without_huggingface_hub_the_extra_is_named(clf, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # what an import of it then says is that there is none
    for share, *arguments in (
        (sktl.push_to_hub, clf, REPO),
        (sktl.load_from_hub, REPO),
        (sktl.save_to_folder, clf, "x"),
    ):
        with pytest.raises(MissingPackageError, match=r"pip install 'sktl\[hub\]'"):
            share(*arguments)
    assert issubclass(MissingPackageError, ImportError)
