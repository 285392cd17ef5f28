"""Files of weights are verified, never executed, and refused with the culprit and the remedy."""

import hashlib
import os
import pickle
import re
import sys
import threading
import urllib.error
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from processes import Child, needs_fork, results
from torch import nn

from sktl import _sources
from sktl._backbones import resolve_backbone
from sktl._weights import fetch, file_digest, load_into, match, published_hash, read_state_dict, verify
from sktl.exceptions import (
    WeightsCorruptError,
    WeightsError,
    WeightsMismatchError,
    WeightsNotFoundError,
    WeightsUnavailableError,
)


def left(hub):
    """What is in a folder of weights beside its locks."""
    return [path.name for path in hub.iterdir() if path.name != ".sktl-locks"]


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The folder of an empty torch hub directory where files of weights belong."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "home" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def small_state():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


# --------------------------------------------------------------------------------------------------------------- hashes


def test_a_digest_is_the_sha256_of_the_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_a_missing_file_is_named_with_the_folder_where_it_was_sought(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsNotFoundError, match=r"weights='absent\.pth'.*no such file.*Check the path") as caught:
        read_state_dict("absent.pth")
    assert os.getcwd() in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(WeightsError, match=r"is not a file. Pass a file"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("n_published", [8, 64])
def test_only_the_published_bytes_are_accepted(tmp_path, n_published):
    (tmp_path / "file").write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert verify(tmp_path / "file", digest[:n_published]) == digest
    assert verify(tmp_path / "file", None) == digest
    with pytest.raises(WeightsCorruptError, match=rf"{digest[:8]}.*{'0' * n_published}.*was published.*Delete it"):
        verify(tmp_path / "file", "0" * n_published)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18-f37072fd.pth", "f37072fd"),
        ("vit_b_16-c867db91.pth", "c867db91"),
        ("tf_efficientnet_l2_ns_475-bebbd00a.pth", "bebbd00a"),
        ("model-2024.pth", None),
        ("model.safetensors", None),
    ],
)
def test_the_published_hash_is_read_from_the_name(name, published):
    assert published_hash(name) == published


def test_a_wrong_file_under_a_published_name_is_refused(hub):
    torch.save(small_state(), hub / "squeezenet1_1-b8a52dc0.pth")
    backbone = resolve_backbone("squeezenet1_1", "default", None, 0)
    with pytest.raises(WeightsCorruptError, match=r"squeezenet1_1-b8a52dc0\.pth has SHA-256.*b8a52dc0.*Delete it"):
        backbone.build()


# ---------------------------------------------------------------------------------------------------------- state dicts


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
def test_what_was_saved_is_read(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    state = small_state()
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert same(read_state_dict(path), state)


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_name_that_is_not_utf8_is_read(tmp_path, suffix):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9" + suffix.encode())
    state = small_state()
    (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert same(read_state_dict(path), state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>404 not found</body></html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 12\n",
        b"hello world",
        bytes(range(256)) * 16,
        "half",
    ],
    ids=["empty", "html", "git-lfs pointer", "text", "binary", "truncated"],
)
def test_a_damaged_file_is_called_damaged(tmp_path, suffix, content):
    path = tmp_path / f"weights{suffix}"
    if content == "half":
        (safetensors.torch.save_file if suffix == ".safetensors" else torch.save)(small_state(), path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    with pytest.raises(WeightsCorruptError, match=r"weights='.*weights\..*' (is|was) .*(damaged|empty)") as caught:
        read_state_dict(path)
    assert not str(caught.value).rstrip().endswith(":")
    assert not re.search("run code|arbitrary code|weights_only", str(caught.value))  # torch's advice is no remedy here


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, 7, {"state_dict": {}}])
def test_a_pickle_without_tensors_is_no_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(WeightsCorruptError, match=r"weights\.pth' holds no tensors.*no state dict.*torch\.save"):
        read_state_dict(tmp_path / "weights.pth")


class Plants:
    """Plants a file, or a folder, when it is unpickled."""

    def __init__(self, path, function=open):
        self.path, self.function = path, function

    def __reduce__(self):
        return self.function, (str(self.path), *(["w"] if self.function is open else []))


@pytest.mark.parametrize(
    "form", ["pickle", "torch", "operating system", "beside a state dict", "whole module", "named safetensors"]
)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch's, about the form that is no torch file
def test_a_pickle_that_would_run_code_is_refused_unexecuted(tmp_path, form):
    path, marker = tmp_path / "weights.pth", tmp_path / "marker"
    if form == "operating system":
        torch.save(Plants(marker, os.mkdir), path)
    elif form == "pickle":
        path.write_bytes(pickle.dumps(Plants(marker)))
    elif form == "torch":
        torch.save(Plants(marker), path)
    elif form == "beside a state dict":
        torch.save({"state_dict": small_state(), "extra": Plants(marker)}, path)
    elif form == "whole module":
        torch.save(nn.Linear(2, 2), path)
    else:
        path = tmp_path / "weights.safetensors"
        path.write_bytes(pickle.dumps(Plants(marker)))
    wrong = "damaged" if form == "named safetensors" else r"would run code.*not loaded.*torch\.save"
    with pytest.raises(WeightsCorruptError, match=rf"weights='.*weights\..*{wrong}"):
        read_state_dict(path)
    assert not marker.exists()


def test_the_planted_file_would_be_there_if_the_pickle_had_run(tmp_path):
    pickle.loads(pickle.dumps(Plants(tmp_path / "marker"))).close()
    assert (tmp_path / "marker").exists()


# ------------------------------------------------------------------------------------------------------------- matching


def ignore_nothing(name):
    return False


@pytest.mark.parametrize("n_missing", [1, 5, 6, 40])
@pytest.mark.parametrize("n_unexpected", [0, 5, 9])
def test_missing_and_unexpected_names_are_listed_five_of_each(n_missing, n_unexpected):
    wanted = [f"wanted{i:02}" for i in range(n_missing)]
    state = {f"strange{i:02}": torch.zeros(1) for i in range(n_unexpected)} | {"common": torch.zeros(1)}
    with pytest.raises(WeightsMismatchError, match=r"^file holds.*another architecture.*Pass the backbone") as caught:
        match(state, [*wanted, "common"], ignore_nothing, "file")
    for prefix, n in (("wanted", n_missing), ("strange", n_unexpected)):
        assert sum(f"{prefix}{i:02}" in str(caught.value) for i in range(n)) == min(n, 5)
        assert (f"and {n - 5} more" in str(caught.value)) == (n > 5)
    assert ("unexpected: none" in str(caught.value)) == (n_unexpected == 0)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "backbone.", "net.", "module._orig_mod."])
def test_a_common_prefix_is_removed(prefix):
    state = small_state()
    renamed = {prefix + key: tensor for key, tensor in state.items()}
    assert same(match(renamed, state, ignore_nothing, "file"), state)


def test_a_prefix_that_belongs_to_the_network_stays():
    state = {"module.weight": torch.ones(1), "module.bias": torch.zeros(1)}
    assert same(match(state, state, ignore_nothing, "file"), state)
    assert same(match({f"module.{k}": t for k, t in state.items()}, state, ignore_nothing, "file"), state)


def test_only_the_output_layer_may_be_there_without_being_wanted():
    state = small_state()
    extra = state | {"head.weight": torch.ones(2)}
    assert same(match(extra, state, lambda name: name.startswith("head."), "file"), state)
    with pytest.raises(WeightsMismatchError, match=r"missing: none; unexpected: head\.weight"):
        match(extra, state, ignore_nothing, "file")


def test_wrong_shapes_are_named_and_nothing_is_loaded():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    state = {key: torch.ones_like(tensor) for key, tensor in before.items()} | {"0.weight": torch.ones(8, 3, 3, 3)}
    wrong = r"file holds.*another architecture: 0\.weight has shape \(8, 3, 3, 3\) instead of \(4, 3, 3, 3\).*Pass the"
    with pytest.raises(WeightsMismatchError, match=wrong):
        load_into(module, state, "file")
    assert same(module.state_dict(), before)


# ------------------------------------------------------------------------------------------------------------- download


def test_weights_that_cannot_be_downloaded_come_with_remedies(hub, monkeypatch):
    def offline(*arguments, **named):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    backbone = resolve_backbone("squeezenet1_1", "default", None, 0)
    with pytest.raises(
        WeightsUnavailableError,
        match=r"squeezenet1_1-b8a52dc0\.pth are not on this machine.*no route to host.*copy the file to .*"
        r"weights=<path of a local file>.*efficientnet_lite0",
    ) as caught:
        backbone.build()
    assert str(hub) in str(caught.value)
    assert left(hub) == []


@pytest.fixture
def server(monkeypatch):
    """A web server on the loopback interface: `server.files` maps paths to bytes, `server.requests` lists what it sent.

    A pair (bytes, length) announces more than it sends.
    """
    monkeypatch.setenv("no_proxy", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            content = self.server.files.get(self.path)
            self.server.asked.set()
            self.server.slow.wait(60)
            if isinstance(content, list):  # one after the other
                content = content.pop(0)
            if content is None:
                self.send_error(404)
                return
            content, length = content if isinstance(content, tuple) else (content, len(content))
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests = {}, []
        server.asked, server.slow = threading.Event(), threading.Event()
        server.slow.set()
        server.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CONTENT = b"weights" * 1000
NAME = f"toy-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


def test_the_published_bytes_are_downloaded_once(hub, server):
    server.files[f"/{NAME}"] = CONTENT
    for _ in range(2):
        path = fetch(f"{server.url}/{NAME}")
        assert path == hub / NAME
        assert path.read_bytes() == CONTENT
    assert server.requests == [f"/{NAME}"]


@pytest.mark.parametrize("wrong", [b"something else", b"", (CONTENT[:100], len(CONTENT))], ids=["other", "none", "cut"])
def test_other_bytes_are_refused_and_not_left_behind(hub, server, wrong):
    server.files[f"/{NAME}"] = wrong
    with pytest.raises(WeightsCorruptError, match=rf"{NAME} arrived damaged.*Try again"):
        fetch(f"{server.url}/{NAME}")
    assert left(hub) == []
    server.files[f"/{NAME}"] = CONTENT
    assert fetch(f"{server.url}/{NAME}").read_bytes() == CONTENT


def test_a_download_that_breaks_off_is_refused_also_without_a_published_hash(hub, server):
    server.files["/toy.pth"] = (CONTENT[:100], len(CONTENT))
    with pytest.raises(WeightsError, match=r"toy\.pth.*(damaged|download)"):
        fetch(f"{server.url}/toy.pth")
    assert left(hub) == []


def test_a_download_that_arrives_damaged_once_is_tried_again(hub, server):
    server.files[f"/{NAME}"] = [(CONTENT[:100], len(CONTENT)), CONTENT]
    assert fetch(f"{server.url}/{NAME}").read_bytes() == CONTENT
    assert len(server.requests) == 2


@needs_fork
def test_processes_and_threads_that_need_the_same_weights_download_them_once(hub, server):
    server.files[f"/{NAME}"] = CONTENT
    server.slow = threading.Event()  # the answer waits until all have asked
    children = [Child(lambda: fetch(f"{server.url}/{NAME}").read_bytes()) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        threads = [pool.submit(fetch, f"{server.url}/{NAME}") for _ in range(3)]
        server.asked.wait(60)
        server.slow.set()
        assert [thread.result().read_bytes() for thread in threads] == [CONTENT] * 3
    assert results(children) == [CONTENT] * 3
    assert server.requests == [f"/{NAME}"]


def test_a_page_that_is_not_there_is_unavailable(hub, server):
    with pytest.raises(WeightsUnavailableError, match=rf"{NAME} are not on this machine.*Not Found"):
        fetch(f"{server.url}/{NAME}")
    assert left(hub) == []


def test_a_server_that_does_not_answer_is_unavailable(hub, server):
    server.shutdown()
    server.server_close()
    with pytest.raises(WeightsUnavailableError, match=rf"{NAME} are not on this machine.*refused"):
        fetch(f"{server.url}/{NAME}")


# ------------------------------------------------------------------------------------------------- the Hugging Face hub


@pytest.fixture
def hugging_face(tmp_path, monkeypatch):
    """Stand in for the hub: give() makes it answer with content, in a blob of a name, or raise an error."""
    asked = []

    def give(answers, blob=None):
        def hf_hub_download(repository, file_name, **named):
            asked.append((repository, file_name))
            answer = answers.get(file_name, EntryNotFoundError("404"))
            if isinstance(answer, Exception):
                raise answer
            blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
            blobs.mkdir(exist_ok=True)
            snapshot.mkdir(parents=True, exist_ok=True)
            path = blobs / (blob or hashlib.sha256(answer).hexdigest())
            path.write_bytes(answer)
            try:
                (snapshot / file_name).symlink_to(path)
            except OSError:
                pytest.skip("this user may not make symbolic links (Windows), so the hub's cache has no named blobs")
            return str(snapshot / file_name)

        monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
        return asked

    return give


@pytest.fixture(scope="module")
def timm_weights():
    torch.manual_seed(0)
    return timm.create_model("test_resnet").eval()


def test_weights_from_the_hub_are_verified_and_loaded(hugging_face, timm_weights):
    asked = hugging_face({"model.safetensors": safetensors.torch.save(timm_weights.state_dict())})
    backbone = resolve_backbone("timm/test_resnet.r160_in1k", "default", None, 0)
    assert asked == []
    images = torch.randn(1, 3, 160, 160)
    with torch.inference_mode():
        logits = timm_weights.get_classifier()(backbone.build()(images))
        torch.testing.assert_close(logits, timm_weights(images))
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]


def test_an_older_file_of_the_hub_is_read_where_there_is_no_newer_one(hugging_face, timm_weights, tmp_path):
    torch.save(timm_weights.state_dict(), tmp_path / "old.bin")
    asked = hugging_face({"pytorch_model.bin": (tmp_path / "old.bin").read_bytes()})
    module = resolve_backbone("timm/test_resnet", "default", None, 0).build()
    assert torch.equal(module.state_dict()["conv1.0.weight"], timm_weights.state_dict()["conv1.0.weight"])
    assert [file_name for _, file_name in asked] == ["model.safetensors", "pytorch_model.bin"]


def test_a_blob_of_the_hub_with_other_bytes_than_its_name_is_refused(hugging_face, timm_weights):
    hugging_face({"model.safetensors": safetensors.torch.save(timm_weights.state_dict())}, blob="0" * 64)
    with pytest.raises(WeightsCorruptError, match=r"model\.safetensors has SHA-256.*0000.*was published.*Delete it"):
        resolve_backbone("timm/test_resnet", "default", None, 0).build()


@pytest.mark.parametrize(
    "error", [LocalEntryNotFoundError("outgoing traffic has been disabled"), urllib.error.URLError("no route"),
              ConnectionError("reset"), TimeoutError("timed out")]
)  # fmt: skip
def test_a_hub_that_cannot_be_reached_comes_with_remedies(hugging_face, error):
    hugging_face({"model.safetensors": error})
    with pytest.raises(
        WeightsUnavailableError, match=r"timm/test_resnet.* not on this machine.*local file.*efficientnet_lite0"
    ) as caught:
        resolve_backbone("timm/test_resnet", "default", None, 0).build()
    assert str(getattr(error, "reason", error)) in str(caught.value)


def test_a_hub_without_the_file_is_unavailable(hugging_face):
    hugging_face({})
    with pytest.raises(WeightsUnavailableError, match=r"timm/test_resnet.*none of the files.*local file"):
        resolve_backbone("timm/test_resnet", "default", None, 0).build()


def test_known_hashes_of_torchvision_are_all_found():
    urls = [member.url for name in _sources.torchvision_names() for member in _sources.torchvision_weights(name)]
    assert all(published_hash(url.rsplit("/")[-1]) for url in urls)
