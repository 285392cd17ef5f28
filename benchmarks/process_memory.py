"""Memory of a process that predicts, by the estimator and by `sktl.runtime`.

    python benchmarks/process_memory.py DATA/cat_breeds [--write docs/guide/deployment.md]

A model is trained on train/, saved and exported. For each way, a fresh process loads it and predicts one photo of
test/. The memory is what the process holds (its resident set), in units of a million bytes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import psutil

WAYS = {
    "the estimator, with OpenVINO": "openvino",
    "the estimator, with torch": "torch",
    "`sktl.runtime`": "onnx",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--write", help="page whose table is replaced")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "MODEL"), help="measure this way in this process")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(held(*arguments.one, photo=arguments.data)))
        return
    # Imported here, because both import torch, which one of the measured processes does without.
    from measuring import folders, measure, report, write_page

    import sktl

    (paths, codes), (photos, _) = folders(arguments.data)
    with tempfile.TemporaryDirectory() as folder:
        record = {}
        for name, way in WAYS.items():
            engine = "torch" if way == "onnx" else way
            model = Path(folder) / f"{way}.{'onnx' if way == 'onnx' else 'sktl'}"
            clf = sktl.PretrainedImageClassifier(engine=engine, device="cpu", random_state=0).fit(paths, codes)
            (clf.export if way == "onnx" else clf.save)(model)
            record[name] = measure(__file__, photos[0], "--one", way, model)
    header = ("process", "imported", "loaded", "after the first photo")
    rows = [(name, *(f"{found[step]:,.0f}" for step in header[1:])) for name, found in record.items()]
    report("process_memory", "Memory of a process that predicts photos on a CPU, in MB.", header, rows, record)
    if arguments.write:
        write_page("process_memory", arguments.write)


def held(way: str, model: str, photo: str) -> dict[str, float]:
    """Return the megabytes that this process holds after each step."""
    process, steps = psutil.Process(), {}

    def note(step: str) -> None:
        steps[step] = process.memory_info().rss / 1e6

    if way == "onnx":
        import onnxruntime  # noqa: F401

        from sktl.runtime import open_model

        note("imported")
        clf = open_model(model)
    else:
        import sktl

        load = sktl.load  # imports the rest
        note("imported")
        clf = load(model, device="cpu").set_params(cache=False)
    note("loaded")
    clf.predict([Path(photo).read_bytes()])
    note("after the first photo")
    return steps


if __name__ == "__main__":
    main()
