"""Published weights are fetched once and verified; where they cannot be had, that is said at once, with remedies."""

import hashlib
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from hub_server import running_hub
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from processes import Child, needs_fork, results

from sktl import rank_backbones
from sktl._backbones import model_libraries as _libraries
from sktl._backbones import weight_downloads as _downloads
from sktl._backbones.resolve_backbone import resolve_backbone
from sktl._backbones.weight_downloads import NoAnswerError, ask_hub, fetch, one_outage, published_hash
from sktl.exceptions import WeightsCorruptError, WeightsError, WeightsUnavailableError


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
    torch.save({"weight": torch.zeros(2)}, hub / "squeezenet1_1-b8a52dc0.pth")
    backbone = resolve_backbone("squeezenet1_1", "default", None, 0)
    with pytest.raises(WeightsCorruptError, match=r"squeezenet1_1-b8a52dc0\.pth has SHA-256.*b8a52dc0.*Delete it"):
        backbone.build()


# ---------------------------------------------------------------------------------------------------------- web servers


def test_weights_that_cannot_be_downloaded_come_with_remedies(hub, monkeypatch):
    def offline(*arguments, **named):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
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

    A pair (bytes, length) announces more than it sends; a number is the status of the answer.
    """
    monkeypatch.setenv("no_proxy", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            content = self.server.files.get(self.path)
            if isinstance(content, int):
                self.send_error(content)
                return
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
        server.handle_error = lambda *client: None  # who has hung up
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
    reason = r"127\.0\.0\.1:\d+ cannot be reached: Connection refused"
    with pytest.raises(
        WeightsUnavailableError, match=rf"{NAME} are not on this machine.*\({reason}\)\. Connect to the"
    ):
        fetch(f"{server.url}/{NAME}")
    assert left(hub) == []


def test_a_server_that_falls_silent_is_unavailable(hub, server, monkeypatch):
    monkeypatch.setattr(_downloads, "_PATIENCE", 0.05)
    server.slow.clear()
    with pytest.raises(WeightsUnavailableError, match=r"cannot be reached: timed out"):
        fetch(f"{server.url}/{NAME}")
    server.slow.set()


@pytest.mark.parametrize(("status", "n_requests"), [(403, 1), (404, 1), (429, 2), (500, 2), (503, 2)])
def test_what_a_server_answers_is_said_and_only_what_may_pass_is_tried_again(hub, server, status, n_requests):
    server.files[f"/{NAME}"] = status
    with pytest.raises(WeightsUnavailableError, match=rf"\(127\.0\.0\.1:\d+ answered {status} [A-Z]") as caught:
        fetch(f"{server.url}/{NAME}")
    assert len(server.requests) == n_requests
    assert ("Connect to the network" in str(caught.value)) == (n_requests == 2)
    assert left(hub) == []


def test_a_server_out_of_order_for_a_moment_is_asked_again(hub, server):
    server.files[f"/{NAME}"] = [(b"", 1), CONTENT]
    assert fetch(f"{server.url}/{NAME}").read_bytes() == CONTENT


@pytest.mark.parametrize("name", [NAME, "toy.pth"])
@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>Log in</html>", b"\n <HTML><body>Welcome"])
def test_the_page_of_a_network_that_wants_a_password_is_no_file_of_weights(hub, server, name, page):
    server.files[f"/{name}"] = page
    with pytest.raises(WeightsUnavailableError, match=r"a web page was sent instead.*Log in to the network"):
        fetch(f"{server.url}/{name}")
    assert left(hub) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, server, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsUnavailableError, match=r"file/hub/checkpoints cannot be written: Not a directory"):
        fetch(f"{server.url}/{NAME}")


@pytest.fixture
def attempts(monkeypatch):
    """Pull the plug; return the addresses that were asked for."""
    asked = []

    def offline(request, **options):
        asked.append(request.full_url)
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    return asked


def test_in_one_outage_a_server_is_asked_for_one_file_alone(hub, attempts):
    urls = [f"https://{host}/{name}" for host in ("a.example", "b.example") for name in ("one.pth", "two.pth")]

    def fail():
        for url in urls:
            with pytest.raises(WeightsUnavailableError, match=rf"{url}.*[ab]\.example cannot be reached: no route"):
                fetch(url)

    for _ in range(2):  # the next outage is another
        with one_outage():
            fail()
    assert attempts == [urls[0], urls[0], urls[2], urls[2]] * 2
    attempts.clear()
    fail()
    assert attempts == [url for url in urls for _ in range(2)]


def test_a_ranking_without_a_connection_asks_each_server_for_one_network_alone(hub, attempts):
    images = torch.arange(12 * 8 * 8).reshape(12, 8, 8).numpy() % 256 / 255
    ranking = rank_backbones(images, ["a", "b"] * 6, ["resnet18", "resnet50", "squeezenet1_1"], cv=2)
    assert len(attempts) == 2
    assert all("download.pytorch.org cannot be reached: no route to host" in row.status for row in ranking)


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
        monkeypatch.setattr(_downloads, "ask_hub", lambda repository, file_name: None)
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


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    """Return a hub on the loopback interface, with an empty cache."""
    with running_hub() as server:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        yield server


@pytest.fixture
def quick_and_quiet(monkeypatch, caplog, capfd):
    """Refuse to wait, and to write anything to the log or the terminal."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"waited {seconds} seconds"))
    yield
    assert not caplog.records
    assert not "".join(capfd.readouterr())


def refused(repository="timm/test_resnet"):
    with pytest.raises(WeightsUnavailableError, match=rf"The weights {repository}.* are not on this machine") as caught:
        resolve_backbone(repository, "default", None, 0).build()
    message = str(caught.value)
    assert len(message) < 600
    assert len(message.splitlines()) == 1
    return message


def test_a_hub_out_of_reach_is_asked_twice_at_once_and_silently(loopback, quick_and_quiet):
    loopback.server_close()
    assert "127.0.0.1" in (message := refused())
    assert "cannot be reached: " in message
    assert "Connect to the network once" in message


@pytest.mark.parametrize(("status", "n_requests"), [(429, 2), (500, 2), (503, 2)])
def test_a_hub_out_of_order_is_asked_twice_at_once_and_silently(loopback, quick_and_quiet, status, n_requests):
    loopback.answer = (status, {})
    assert f"answered {status}" in refused()
    assert [command for command, *_ in loopback.requests] == ["HEAD"] * n_requests


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, {"X-Error-Code": "RepoNotFound"}), "Repository Not Found"),
        ((403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Ask its owner"}), "403"),
        ((404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": "0" * 40}), "none of the files model.safetensors"),
        ((200, {"Content-Type": "text/html"}), "X-Repo-Commit"),  # the page of a network that wants a password
    ],
    ids=["no repository", "gated", "no file", "web page"],
)
def test_what_the_hub_answers_is_said_in_one_line(loopback, quick_and_quiet, answer, words):
    loopback.answer = answer
    assert words.lower() in refused().lower()


def test_the_hub_is_not_asked_where_it_is_switched_off(loopback, quick_and_quiet, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.utils._http.close_session()  # it has read the setting
    assert "HF_HUB_OFFLINE" in refused()
    huggingface_hub.utils._http.close_session()
    assert not loopback.requests


def test_a_hub_that_answers_is_left_to_its_own_client(loopback):
    ask_hub("timm/test_resnet", "model.safetensors")  # 401: it answers
    loopback.answer = (503, {})
    with pytest.raises(NoAnswerError, match=r"127\.0\.0\.1:\d+ answered 503"):
        ask_hub("timm/test_resnet", "model.safetensors")


def test_known_hashes_of_torchvision_are_all_found():
    urls = [member.url for name in _libraries.torchvision_names() for member in _libraries.torchvision_weights(name)]
    assert all(published_hash(url.rsplit("/")[-1]) for url in urls)
