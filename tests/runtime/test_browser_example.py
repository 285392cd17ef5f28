"""The browser example: the same pixels as Pillow, the same predictions as the runtime, nothing from elsewhere."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import onnx_models as exported
import PIL
import pytest
from chromium import chromium
from PIL import Image

from sktl._images.preprocessing import Preprocessing
from sktl.runtime import open_model

FOLDER = Path(__file__).parents[2] / "examples" / "deployment" / "browser"
RNG = np.random.default_rng(0)
FILTERS = ("bicubic", "bilinear", "lanczos", "box", "hamming")
NAMES = ("<img src=x onerror=alert(1)>", "green", "blue")


class Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    """Return a function that serves a folder on a free port and returns the address."""
    servers = []

    def serve(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(browser):
    """Return a function that opens an address. Errors, and requests to anywhere else, fail the test."""
    contexts, problems = [], []

    def open_page(url: str):
        context = browser.new_context()
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        own = (re.match(r"http://[^/]+", url)[0], "data:", "blob:")
        page.on("request", lambda request: request.url.startswith(own) or problems.append(request.url))
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems


def cases() -> list[tuple[np.ndarray, Preprocessing]]:
    """Return images of many shapes, and how they are resized."""
    found = []
    for i in range(30):
        longest = (60, 200, 400)[i % 3]
        height, width = RNG.integers(1, longest, 2)
        if int(PIL.__version__.partition(".")[0]) < 13:
            height, width = sorted((height, width))  # earlier versions resize tall images in another order
        crop = (int(RNG.integers(4, 70)),) * 2
        resize = crop[0] + int(RNG.integers(0, 20))
        preprocessing = Preprocessing(resize if i % 4 else (resize, resize + 5), crop, FILTERS[i % 5])
        found.append((RNG.integers(0, 256, (height, width, 3), np.uint8), preprocessing))
    return found


@pytest.mark.thorough
def test_pixels_are_those_of_pillow(serve, open_page, tmp_path):
    shutil.copy(FOLDER / "preprocessing.js", tmp_path)
    (tmp_path / "index.html").write_text(
        '<link rel="icon" href="data:,"><script type="module">import { networkPixels } from "./preprocessing.js";\n'
        "const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt());\n"
        "window.resized = ({ data, ...image }, preprocessing) =>\n"
        "  btoa(String.fromCharCode(...networkPixels({ data: bytes(data), ...image }, preprocessing)));</script>"
    )
    page = open_page(serve(tmp_path))
    page.wait_for_function("() => Boolean(window.resized)")
    n_different = n_pixels = 0
    for image, preprocessing in cases():
        given = {"data": base64.b64encode(image.tobytes()).decode(), "height": image.shape[0], "width": image.shape[1]}
        how = {name: getattr(preprocessing, name) for name in ("resize", "crop", "interpolation")}
        found = page.evaluate("([image, how]) => resized(image, how)", [given, how])
        expected = preprocessing.pixels(Image.fromarray(image))
        pixels = np.frombuffer(base64.b64decode(found), np.uint8).reshape(expected.shape)
        difference = np.abs(pixels - expected.astype(int))
        assert difference.max() <= 1, (image.shape, preprocessing)
        n_different += np.count_nonzero(difference)
        n_pixels += difference.size
    assert n_different < 1e-4 * n_pixels  # where sines of two libraries differ


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photos() -> dict[str, tuple[bytes, float]]:
    """Return files, and how far probabilities may be from the runtime's."""
    small = RNG.integers(0, 256, (9, 7, 3), np.uint8)
    photo = Image.fromarray(small).resize((900, 700), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha = Image.merge("RGBA", [*photo.split(), photo.getchannel(0)])
    return {
        "photo.png": (encoded(photo, "PNG"), 1e-5),
        "turned.jpg": (encoded(photo, "JPEG", exif=exif, quality=90), 3e-3),
        "large.jpg": (encoded(photo.resize((3_000, 4_000)), "JPEG"), 3e-3),
        "alpha.png": (encoded(alpha, "PNG"), 3e-3),
        "gray.webp": (encoded(photo.convert("L"), "WEBP", lossless=True), 1e-5),
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the folder of the example, or a copy, in which npm has installed the package."""
    if (FOLDER / "node_modules").exists():
        return FOLDER
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("npm")
    shutil.copy(FOLDER / "package.json", folder)
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture
def example(installed, tmp_path):
    """Return a copy of the example with a model."""
    folder = tmp_path / "browser"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(installed / "node_modules")
    content = exported.content(names=NAMES, dtype=f"<U{max(map(len, NAMES))}")
    (folder / "model.onnx").write_bytes(content)
    return folder


def wait_for(page, text: str) -> str:
    """Return what the page says when it matches a pattern."""
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text(re.compile(text), timeout=60_000)
    return page.inner_text("#status")


READY = r"^Drop a photo here, or choose one\.$"


@pytest.mark.slow
def test_a_dropped_photo_is_classified_as_by_the_runtime(serve, open_page, example):
    page = open_page(serve(example))
    wait_for(page, READY)
    model = open_model(example / "model.onnx")
    for name, (content, tolerance) in photos().items():
        (expected,) = model.predict_proba([content])
        page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})
        wait_for(page, rf"^{name}: \d+ ms$")
        rows = [row.split("\t") for row in page.inner_text("#results").splitlines()]
        found = {label: float(share.removesuffix(" %")) / 100 for label, share in rows}
        assert set(found) == set(NAMES)  # as text
        assert [label for label, _ in rows] == [NAMES[i] for i in np.argsort(-expected)]
        np.testing.assert_allclose([found[label] for label in NAMES], expected, atol=tolerance + 5e-4)  # as printed
        exact = dict(page.evaluate("document.getElementById('results').pairs"))
        np.testing.assert_allclose([exact[label] for label in NAMES], expected, atol=tolerance)
    assert page.locator("#photo").evaluate("image => image.naturalWidth") > 0


@pytest.mark.slow
def test_a_file_that_is_no_photo_is_said(serve, open_page, example):
    page = open_page(serve(example))
    wait_for(page, READY)
    page.set_input_files("#file", {"name": "<b>text</b>.jpg", "mimeType": "image/jpeg", "buffer": b"no image"})
    assert wait_for(page, "cannot be used").startswith("<b>text</b>.jpg cannot be used: ")
    assert page.inner_text("#results") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no model", "damaged|cut off"),
        (exported.content()[:5_000], "damaged|cut off"),
        (exported.with_text(exported.graph(), None), "was not written by sktl.export"),
        (exported.with_text(exported.graph("labels"), exported.described("classes").to_json()), "other outputs"),
    ],
    ids=["text", "cut", "foreign", "another network"],
)
def test_a_damaged_model_is_said(serve, open_page, example, content, message):
    (example / "model.onnx").write_bytes(content)
    page = open_page(serve(example))
    wait_for(page, message)
    assert page.is_disabled("#file")
