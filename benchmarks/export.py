"""Accuracy, speed and size of exported models in each precision and runtime, beside `predict`.

    python benchmarks/export.py DATA/cat_breeds [--images 400] [--repeats 5] [--write docs/guide/export.md]

The output layer is trained on train/, exported, and scored on test/. Times are those from decoded photos to labels:
each thread resizes photos and runs chunks of 4, as sktl does in `predict`, with nothing cached. Ways take turns, and
medians over the repeats are shown. 300 images of train/ calibrate int8, whose loss is limited by `max_drop=1`, so that
the table shows whatever it is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
from measuring import folders, report, write_page
from PIL import Image

import sktl
from sktl._features.openvino import PROPERTIES, core
from sktl._images.network_pixels import network_pixels
from sktl._images.samples import as_samples

CHUNK = 4
THREADS = (1, 2)
PRECISIONS = ("float32", "float16", "int8")
RUNTIMES = {"ONNX Runtime": ".onnx", "OpenVINO": ".xml"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=400, help="photos of which the times are measured")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    train, test = folders(arguments.data)
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in test[0][: arguments.images]]
    with tempfile.TemporaryDirectory() as folder:
        record = measure(Path(folder), train, test, photos, arguments.repeats)
    base = record["predict"]
    rows = [row_of(way, found, record, base) for way, found in record.items()]
    title = (
        f"Accuracy and changed labels on {len(test[0])} test photos, and milliseconds per photo from decoded photo to "
        f"label, measured on {len(photos)} photos. The ratio to float32 in the same runtime is in parentheses."
    )
    header = ("runtime", "accuracy in %", "changed labels", *(f"ms, {n} thread{'s' * (n > 1)}" for n in THREADS), "MB")
    report("export", title, header, rows, record)
    if arguments.write:
        write_page("export", arguments.write)


def row_of(way: str, found: dict, record: dict, base: dict) -> tuple[str, ...]:
    exact = record.get(f"{way.partition(',')[0]}, float32", base)
    times = []
    for n in THREADS:
        ratio = exact[f"ms {n}"] / found[f"ms {n}"]
        times.append(f"{found[f'ms {n}']:.1f} ({ratio:.2f}x)" if found is not base else f"{found[f'ms {n}']:.1f}")
    return way, f"{100 * found['accuracy']:.1f}", str(found["changed"]), *times, f"{found['MB']:.1f}"


def measure(folder: Path, train, test, photos, repeats) -> dict[str, dict]:
    """Return the figures of each way to predict."""
    paths, y = test
    clf = sktl.PretrainedImageClassifier(random_state=0).fit(*train)
    clf.save(folder / "m.sktl")
    own = clf.predict(paths)
    record = {"predict": figures(own, own, y, [folder / "m.sktl"])}
    clf.set_params(cache=False)
    runs = {("predict", n): of_sktl(clf, n) for n in THREADS}
    pixels = [network_pixels(sample.read(), clf.backbone_.preprocessing) for sample in as_samples(paths)]
    for runtime, suffix in RUNTIMES.items():
        for precision in PRECISIONS:
            way, path = f"{runtime}, {precision}", folder / f"{precision}{suffix}"
            given = {"calibration": train[0][:300], "max_drop": 1} if precision == "int8" else {}
            done = sktl.export(clf, path, precision=precision, **given)
            print(done, flush=True)
            open_file = of_onnx if suffix == ".onnx" else of_openvino
            for n in THREADS:
                runs[way, n] = of_file(open_file(path, n), clf, n)
            labels = clf.classes_[in_chunks(open_file(path, 1), pixels).argmax(axis=1)]
            record[way] = figures(labels, own, y, map(Path, done.files)) | {"drop": done.drop}
    for (way, n), milliseconds in times_of(runs, photos, repeats).items():
        record[way][f"ms {n}"] = milliseconds
    return record


def figures(labels, own, y, files) -> dict:
    n_bytes = sum(file.stat().st_size for file in files)
    return {"accuracy": float((labels == y).mean()), "changed": int((labels != own).sum()), "MB": n_bytes / 1e6}


def times_of(runs, photos, repeats) -> dict:
    """Return the median of the milliseconds per photo of each run; runs take turns."""
    times = defaultdict(list)
    for run in runs.values():
        run(photos[:16])
    for _ in range(repeats):
        for key, run in runs.items():
            started = time.perf_counter()
            run(photos)
            times[key].append((time.perf_counter() - started) / len(photos) * 1000)
    return {key: statistics.median(values) for key, values in times.items()}


def of_sktl(clf, n_threads):
    def run(photos):
        return clf.set_params(n_jobs=n_threads).predict(photos)

    return run


def of_file(infer, clf, n_threads):
    """Resize photos and infer, in chunks, in threads."""
    preprocessing = clf.backbone_.preprocessing

    def chunk(photos):
        return infer(np.stack([preprocessing.pixels(Image.fromarray(photo)) for photo in photos]))

    def run(photos):
        chunks = [photos[i : i + CHUNK] for i in range(0, len(photos), CHUNK)]
        with ThreadPoolExecutor(n_threads) as pool:
            return clf.classes_[np.concatenate(list(pool.map(chunk, chunks))).argmax(axis=1)]

    return run


def in_chunks(infer, pixels):
    return np.concatenate([infer(np.stack(pixels[i : i + CHUNK])) for i in range(0, len(pixels), CHUNK)])


def of_onnx(path, n_threads):
    """Open a file in ONNX Runtime, which computes in the threads that call it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"images": pixels})[0]


def of_openvino(path, n_threads):
    """Open a file in OpenVINO, with a stream of one thread for each thread that calls it."""
    streams = {"NUM_STREAMS": n_threads, "INFERENCE_NUM_THREADS": n_threads}
    compiled = core().compile_model(str(path), "CPU", PROPERTIES | streams)

    def infer(pixels):
        request = compiled.create_infer_request()
        request.start_async([pixels])
        request.wait()
        return request.get_output_tensor(0).data.copy()

    return infer


if __name__ == "__main__":
    main()
