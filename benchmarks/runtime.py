"""How far predictions of an exported model are from the estimator's, and how long a first prediction takes.

    python benchmarks/runtime.py DATA/cat_breeds [--browser FOLDER] [--write docs/guide/run_without_torch.md]

The output layer is trained on train/ and exported. Photos of test/ are predicted by the estimator and by
`sktl.runtime`. FOLDER is a copy of examples/deployment/browser in which `npm install` was run; its page then predicts
photos in headless Chromium: as PNG, as the original files, and enlarged six times as JPEG. The difference of a photo is
the largest difference of its probabilities.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from measuring import folders, report, write_page
from PIL import Image

import sktl
from sktl.runtime import OnnxClassifier

IN_BROWSER = {"PNG": 60, "original file": 60, "JPEG, six times as large": 30}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--browser", help="copy of the browser example with its npm package")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, (paths, _) = folders(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        clf = sktl.PretrainedImageClassifier(random_state=0).fit(*train)
        clf.export(path)
        model = OnnxClassifier(path)
        found, expected = model.predict_proba(paths), clf.predict_proba(paths)
        record = {"sktl.runtime, compared with the estimator": compared(found, expected)}
        record["seconds"] = seconds(path, paths[0], arguments.repeats)
        if arguments.browser:
            record |= in_browser(Path(arguments.browser), path, paths, model)
    rows = [
        (way, found["photos"], found["changed"], f"{found['median']:.1g}", f"{found['largest']:.1g}")
        for way, found in record.items()
        if way != "seconds"
    ]
    title = (
        f"Differences between probabilities. `python -m sktl.runtime` takes {record['seconds']:.2f} s for one photo, "
        "including startup."
    )
    header = ("comparison", "photos", "changed labels", "median difference", "largest difference")
    report("runtime", title, header, rows, record)
    if arguments.write:
        write_page("runtime", arguments.write)


def compared(found: np.ndarray, expected: np.ndarray) -> dict:
    differences = np.abs(found - expected).max(axis=1)
    changed = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    median, largest = float(np.median(differences)), float(differences.max())
    return {"photos": len(found), "changed": changed, "median": median, "largest": largest}


def seconds(model: Path, photo: str, repeats: int) -> float:
    """Return the median time of the command for one photo."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "sktl.runtime", model, photo], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def in_browser(folder: Path, model_file: Path, paths: list[str], model: OnnxClassifier) -> dict[str, dict]:
    """Return how far the page is from `sktl.runtime` for each kind of files."""
    from playwright.sync_api import expect, sync_playwright

    shutil.copy(model_file, folder / "model.onnx")
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    record = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        expect(page.locator("#file")).to_be_enabled(timeout=120_000)
        for kind, n_photos in IN_BROWSER.items():
            found, expected = [], []
            for i, path in enumerate(paths[:n_photos]):
                content = file_of(path, kind)
                given = {"name": f"{kind} {i}", "mimeType": "image/png", "buffer": content}
                page.set_input_files("#file", given)
                expect(page.locator("#status")).to_have_text(re.compile(rf"^{kind} {i}: \d+ ms$"), timeout=120_000)
                pairs = dict(page.evaluate("document.getElementById('results').pairs"))
                found.append([pairs[str(name)] for name in model.classes_])
                expected.append(model.predict_proba([content])[0])
            record[f"browser, compared with sktl.runtime: {kind}"] = compared(np.array(found), np.array(expected))
        browser.close()
    server.shutdown()
    return record


def file_of(path: str, kind: str) -> bytes:
    if kind == "original file":
        return Path(path).read_bytes()
    file = io.BytesIO()
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if kind == "PNG":
        image.save(file, "PNG")
    else:
        image.resize((6 * image.width, 6 * image.height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    main()
