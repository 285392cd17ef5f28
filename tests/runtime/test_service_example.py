"""The example service under load and abuse: right answers, JSON errors, flat memory, a quiet end."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import httpx
import numpy as np
import onnx_models as exported
import psutil
import pytest
from PIL import Image, PngImagePlugin
from processes import ROOTS

import sktl
from sktl.runtime import OnnxClassifier

pytest.importorskip("fastapi", reason="the extra `test` installs it")
FOLDER = Path(__file__).parents[2] / "examples" / "deployment"
CONTENT = exported.content(typicality=True)
RNG = np.random.default_rng(0)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


PHOTOS = [
    encoded(Image.fromarray(RNG.integers(0, 256, (6, 5, 3), np.uint8)).resize((300 + i, 200)), "JPEG")
    for i in range(20)
]
EXPECTED = OnnxClassifier(CONTENT).predict_proba(PHOTOS)


def bomb() -> bytes:
    """Return a PNG of a megabyte that would unpack to gigabytes."""
    header = b"\0\0\x7f\xff\0\0\x7f\xff\x08\x02\0\0\0"
    body = zlib.compress(bytes(1 << 28), 9)
    chunks = [(b"IHDR", header), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks
    )


def texts() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * (64 << 20), zip=True)
    return encoded(Image.new("RGB", (9, 9)), pnginfo=info)


# Made when they are needed: some take a second.
BAD = {
    "empty": lambda: b"",
    "text": lambda: b"I am a cat.",
    "markup": lambda: b"<script>alert(1)</script>",
    "cut": lambda: PHOTOS[0][: len(PHOTOS[0]) // 2],
    "bomb": bomb,
    "archive": lambda: b"PK\x03\x04" + bytes(100),
    "too many pixels": lambda: encoded(Image.new("L", (10_000, 4_000))),
    "PDF": lambda: b"%PDF-1.7\n" + bytes(100),
}
GOOD = {"wide": lambda: encoded(Image.new("RGB", (10_000, 20), "red")), "with texts": texts}


@functools.cache
def bad_file(kind: str) -> bytes:
    return BAD[kind]()


class Server:
    """The service in a process of its own, on a free port."""

    def __init__(self, folder: Path, app: str = "service:app"):
        (folder / "model.onnx").write_bytes(CONTENT)
        self.log = folder / "log.txt"
        path = os.pathsep.join([*ROOTS, str(FOLDER)])
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", app, "--port", "0", "--no-access-log"],
                stdout=log, stderr=log, cwd=folder,
                env={**os.environ, "PYTHONPATH": path, "SERVICE_MODEL": "model.onnx"},
            )  # fmt: skip
        self.url = self._wait_for_url()

    def _wait_for_url(self) -> str:
        for _ in range(600):
            if found := re.search(r"running on (http://\S+)", self.log.read_text()):
                return found[1]
            try:
                self.process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        raise AssertionError(f"the service did not start: {self.log.read_text()}")

    def memory(self) -> int:
        return psutil.Process(self.process.pid).memory_info().rss

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
        return self.log.read_text()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("service"))
    yield server
    log = server.stop()
    assert "Traceback" not in log
    assert "Finished server process" in log


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def files(*contents: bytes, name: str = "cat.jpg") -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", (name, content)) for content in contents]


def probabilities(answer: httpx.Response) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([list(record["probabilities"].values()) for record in answer.json()["predictions"]])


def test_the_service_says_how_it_is_and_what_it_predicts(client):
    assert client.get("/health").json() == {"status": "ok"}
    described = client.get("/model").json()
    assert described["predicts"] == "classes"
    assert described["names"] == ["red", "green", "blue"]
    assert described["has_typicality"]
    assert "sktl" in described["versions"]


def test_images_of_a_request_are_answered_in_their_order(client):
    answer = client.post("/predict", files=files(*PHOTOS[:5]))
    np.testing.assert_allclose(probabilities(answer), EXPECTED[:5], atol=1e-6)
    first = answer.json()["predictions"][0]
    assert first["image"] == "cat.jpg"
    assert {"prediction", "probability", "typicality"} <= set(first)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_an_error_of_the_client(client, kind):
    answer = client.post("/predict", files=files(PHOTOS[0], bad_file(kind)))
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"
    (bad,) = answer.json()["images"]
    assert bad["image"] == "cat.jpg"
    assert bad["reason"]


@pytest.mark.parametrize("kind", GOOD)
def test_an_unusual_image_is_predicted(client, kind):
    assert len(probabilities(client.post("/predict", files=files(GOOD[kind]())))) == 1


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>.jpg", "../../etc/passwd", "\u202egpj.exe", "a" * 999])
def test_a_name_is_returned_as_data_and_used_for_nothing(client, name):
    for content, status in ((PHOTOS[0], 200), (b"text", 422)):
        answer = client.post("/predict", files=files(content, name=name))
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
        (record,) = answer.json()["predictions" if status == 200 else "images"]
        assert record["image"] == name[:200]


def test_a_request_that_is_no_upload_is_an_error_of_the_client(client):
    form = "multipart/form-data; boundary=x"
    answers = {
        "JSON": (client.post("/predict", json={"image": "cat.jpg"}), 415),
        "the image alone": (client.post("/predict", content=PHOTOS[0]), 415),
        "no files": (client.post("/predict", data={"images": "text"}, files={"": ("", b"")}), 400),
        "no boundary": (client.post("/predict", content=b"x", headers={"content-type": "multipart/form-data"}), 400),
        "damaged": (client.post("/predict", content=b"garbage", headers={"content-type": form}), 400),
        "too many": (client.post("/predict", files=files(*PHOTOS[:17])), 400),
        "too large": (client.post("/predict", files=files(bytes(21 << 20))), 413),
        "GET": (client.get("/predict"), 405),
        "elsewhere": (client.get("/../etc/passwd"), 404),
    }
    for what, (answer, status) in answers.items():
        assert (what, answer.status_code) == (what, status)
        assert isinstance(answer.json()["detail"], str), what


def test_clients_that_leave_are_forgotten(server, client):
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n"
    for sent in (b"", b"GET", head, head + b"\r\n", head + b"\r\n--x\r\nContent-Disposition: form-data; name=a; "):
        for _ in range(5):
            with socket.create_connection((host, int(port)), 10) as connection:
                connection.sendall(sent)
    answer = client.post("/predict", files=files(*PHOTOS[:3]))
    np.testing.assert_allclose(probabilities(answer), EXPECTED[:3], atol=1e-6)


async def storm(url: str, n_requests: int) -> list[tuple[int, httpx.Response]]:
    """Send requests at once, every fifth of them bad."""
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None)) as client:

        async def send(i: int) -> tuple[int, httpx.Response]:
            contents = [PHOTOS[i % 20], PHOTOS[(i + 7) % 20]][: 1 + i % 2]
            bad = [bad_file([*BAD][i // 5 % len(BAD)])] if i % 5 == 4 else []
            return i, await client.post("/predict", files=files(*contents, *bad, name=f"{i}.jpg"))

        return await asyncio.gather(*map(send, range(n_requests)))


@pytest.mark.thorough
def test_200_requests_at_once_are_answered_rightly_and_memory_stays_flat(server):
    memory = []
    for n_requests in (60, 200, 200):
        for i, answer in asyncio.run(storm(server.url, n_requests)):
            if i % 5 == 4:
                assert answer.status_code == 422
                assert answer.json()["images"][0]["image"] == f"{i}.jpg"
                continue
            rows = [i % 20, (i + 7) % 20][: 1 + i % 2]
            np.testing.assert_allclose(probabilities(answer), EXPECTED[rows], atol=1e-6)
            assert answer.json()["predictions"][0]["image"] == f"{i}.jpg"
        memory.append(server.memory() / 2**20)
    assert memory[2] - memory[0] < 40, memory  # MiB; the first round set up threads and pools
    assert json.loads(httpx.get(f"{server.url}/health").text) == {"status": "ok"}


@pytest.mark.thorough
def test_slow_uploads_end_and_a_full_service_says_so(tmp_path):
    (tmp_path / "strict.py").write_text(
        "from service import Limits, create_app\napp = create_app('model.onnx', Limits(seconds=1, requests=2))\n"
    )
    server = Server(tmp_path, "strict:app")
    try:
        host, port = server.url.removeprefix("http://").split(":")
        head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n"
        head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        slow = [socket.create_connection((host, int(port)), 20) for _ in range(2)]
        for connection in slow:
            connection.sendall(head)
        for _ in range(1_000):
            answer = httpx.post(f"{server.url}/predict", files=files(PHOTOS[0]), timeout=20)
            if answer.status_code == 200:
                break
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.status_code == 200
        for connection in slow:
            assert b" 408 " in connection.recv(100)
            connection.close()
    finally:
        assert "Traceback" not in server.stop()


@pytest.fixture
def batcher(monkeypatch):
    """Return a batcher of at most 3 images, and the sizes of its batches; images whose first pixel is 9 fail."""
    monkeypatch.syspath_prepend(FOLDER)
    import service

    sizes = []

    def run(pixels):
        sizes.append(len(pixels))
        if 9 in pixels:
            raise MemoryError("too large")
        return [{"prediction": int(image[0])} for image in pixels]

    return service.Batcher(run, 3), sizes


def test_what_waits_is_predicted_together_and_alone_if_nothing_waits(batcher):
    batcher, sizes = batcher

    async def ask() -> list[dict]:
        serving = asyncio.create_task(batcher.serve())
        alone = await batcher.predict(np.array([7]))
        others = await asyncio.gather(*(batcher.predict(np.array([i])) for i in range(8)))
        serving.cancel()
        return [alone, *others]

    assert [record["prediction"] for record in asyncio.run(ask())] == [7, *range(8)]
    assert sizes == [1, 3, 3, 2]


def test_a_batch_that_fails_is_told_to_all_who_wait_and_to_nobody_else(batcher):
    batcher, _ = batcher

    async def ask() -> list:
        gone = asyncio.create_task(batcher.predict(np.array([1])))
        await asyncio.sleep(0)  # until it waits
        gone.cancel()
        serving = asyncio.create_task(batcher.serve())
        rows = [np.array([i]) for i in (2, 9, 3, 4)]
        found = await asyncio.gather(*map(batcher.predict, rows), return_exceptions=True)
        serving.cancel()
        return found

    found = asyncio.run(ask())
    assert [type(answer) for answer in found] == [MemoryError, MemoryError, MemoryError, dict]


@pytest.mark.parametrize(("setting", "expected"), [("3", 3), ("", None), (None, None)])
def test_the_number_of_threads_is_set_by_the_environment(tmp_path, monkeypatch, setting, expected):
    monkeypatch.syspath_prepend(FOLDER)
    import service

    (tmp_path / "model.onnx").write_bytes(CONTENT)
    monkeypatch.setenv("SERVICE_MODEL", str(tmp_path / "model.onnx"))
    monkeypatch.delenv("SERVICE_THREADS", raising=False)
    if setting is not None:
        monkeypatch.setenv("SERVICE_THREADS", setting)
    opened = []
    monkeypatch.setattr(service, "open_model", lambda model, n_threads: opened.append(n_threads))
    monkeypatch.setattr(sktl, "set_pixel_limit", lambda n: None)  # it would stay for other tests

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    app = service.app
    asyncio.run(start())
    assert opened == [expected]
    assert app.state.service._decoders._max_workers == (expected or os.cpu_count())


@pytest.mark.thorough
def test_a_service_without_its_model_says_so_and_ends(tmp_path):
    path = os.pathsep.join([*ROOTS, str(FOLDER)])
    done = subprocess.run(
        [sys.executable, "-m", "uvicorn", "service:app", "--port", "0"], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": path, "SERVICE_MODEL": str(tmp_path / "absent.onnx")},
    )  # fmt: skip
    assert done.returncode
    assert "absent.onnx' does not exist" in done.stderr
