"""One fit from files, cold and warm, beside the bare pass and what people write without this library.

    python benchmarks/single_fit.py DATA/cat_breeds [--repeats 3] [--engines torch openvino]
        [--fine-tune] [--write docs/benchmarks.md]

Every measurement is made in a fresh process, imports not counted, nor that of the engine's library; cold has an empty
cache, warm the cache of the process before. "bare" is the CPU time of decoding all images one by one and of running the
network on them, with one intra-op thread in chunks as sktl does, in plain timm and OpenVINO, divided by the number of
cores: what a pass would take without any overhead, the network being open. That sktl has to open it first is counted.
With --fine-tune, `trainable_stages="all"` stands beside fastai's usual recipe, `fine_tune`, which trains the whole
network, too.
"""

import argparse
import importlib
import json
import os
import sys
import tempfile
import time

import alternatives
import numpy as np
import torch
from measuring import folders, head_seconds, measure, median, report, timed, write_page

CHUNK = 4
FINE_TUNED = "sktl, all stages trained, cold"


def bare(train, test, engine, record):
    """Decode all images, then run the network on them, each on one thread."""
    torch.set_num_threads(1)
    change = alternatives.transform()
    with timed(record, "decode"):
        images = [change(alternatives.load(path)) for path in train[0]]
    run = RUNNERS[engine]()
    chunks = [torch.stack(images[start : start + CHUNK]) for start in range(0, len(images), CHUNK)]
    run(chunks[0])
    with timed(record, "forward"):
        for chunk in chunks:
            run(chunk)
    record["wall"] = (record["decode cpu"] + record["forward cpu"]) / os.cpu_count()


def run_torch():
    model = alternatives.network().to(memory_format=torch.channels_last)

    def run(chunk):
        with torch.inference_mode():
            return model(chunk.contiguous(memory_format=torch.channels_last))

    return run


def run_openvino():
    import openvino

    model = openvino.convert_model(alternatives.network(), example_input=torch.zeros(CHUNK, 3, 224, 224))
    model.reshape([CHUNK, 3, 224, 224])
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(chunk):
        return request.infer([chunk.numpy() if len(chunk) == CHUNK else np.zeros((CHUNK, 3, 224, 224), np.float32)])

    return run


RUNNERS = {"torch": run_torch, "openvino": run_openvino}


def sktl(train, test, engine, record, cache, stages):
    from sktl import PretrainedImageClassifier
    from sktl._features import openvino as _openvino

    if engine == "openvino":
        _openvino.library()
    with head_seconds(record), timed(record, "wall"):
        clf = PretrainedImageClassifier(trainable_stages=stages, random_state=0, engine=engine, cache=cache)
        clf.fit(*train)
    with timed(record, "predict"):
        record["accuracy"] = float(clf.score(*test))
    record["opening"] = opening_seconds(clf)


def opening_seconds(clf):
    """Return how long it takes to build, convert and probe the network of a classifier again."""
    from sktl._features import engines as _engines

    _engines.registry = _engines.EngineRegistry()
    started = time.perf_counter()
    _engines.registry.open(_engines.FrozenPart(clf.backbone_, clf.device_, 0, clf.engine_))
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engines", nargs="*", choices=RUNNERS, default=list(RUNNERS))
    parser.add_argument("--alternatives", nargs="*", choices=alternatives.WAYS, default=list(alternatives.WAYS))
    parser.add_argument("--fine-tune", action="store_true", help="train all stages as well, once, with a cold cache")
    parser.add_argument("--write", help="page whose table is replaced")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(one(arguments)))
        return
    record = {}
    for _ in range(arguments.repeats):
        for engine in arguments.engines:
            with tempfile.TemporaryDirectory() as cache:
                for kind in ("bare", "cold", "warm"):
                    run = measure(__file__, arguments.data, "--measure", kind, engine, "--cache", cache)
                    record.setdefault(f"{kind} {engine}", []).append(run)
                    print(kind, engine, run, file=sys.stderr, flush=True)
    if arguments.fine_tune:
        with tempfile.TemporaryDirectory() as cache:
            run = measure(__file__, arguments.data, "--measure", "all", arguments.engines[-1], "--cache", cache)
            record[FINE_TUNED] = [run]
            print(FINE_TUNED, run, file=sys.stderr, flush=True)
    for way in arguments.alternatives:
        record[way] = [measure(__file__, arguments.data, "--measure", "way", way)]
        print(way, record[way], file=sys.stderr, flush=True)
    tell(arguments, record)


def one(arguments):
    train, test = folders(arguments.data)
    kind, name = arguments.measure
    record = {"images": len(train[0])}
    if kind == "bare":
        bare(train, test, name, record)
    elif kind == "way":
        epochs = {"epochs": alternatives.LEAST_EPOCHS} if name == "skorch" else {}
        if name.startswith("fastai"):
            importlib.import_module("fastai.vision.all")
        with timed(record, "wall"):
            accuracy = alternatives.WAYS[name](train, test, **epochs)
        if epochs:
            record["wall"] *= alternatives.EPOCHS / alternatives.LEAST_EPOCHS
            record["fraction"] = f", extrapolated from {alternatives.LEAST_EPOCHS} of {alternatives.EPOCHS} epochs"
        else:
            record["accuracy"] = accuracy
    else:
        sktl(train, test, name, record, arguments.cache, "all" if kind == "all" else 0)
    return record


def tell(arguments, record):
    rows = []
    for engine in arguments.engines:
        bare_seconds = median(record[f"bare {engine}"], "wall")
        rows.append((f"bare pass, {engine}", f"{bare_seconds:.2f}", "", "", "1.00", ""))
        for kind in ("cold", "warm"):
            runs = record[f"{kind} {engine}"]
            wall, head, opening = (median(runs, name) for name in ("wall", "head", "opening"))
            opened = f"{opening:.2f}" if kind == "cold" else ""
            passed = wall - head
            accuracy = f"{100 * runs[0]['accuracy']:.1f}"
            cells = (f"{wall:.2f}", f"{head:.2f}", opened, f"{passed / bare_seconds:.2f}", accuracy)
            rows.append((f"sktl, {engine}, {kind}", *cells))
    if FINE_TUNED in record:
        run = record[FINE_TUNED][0]
        rows.append((FINE_TUNED, f"{run['wall']:.1f}", "", "", "", f"{100 * run['accuracy']:.1f}"))
    best = min(median(record[f"cold {engine}"], "wall") for engine in arguments.engines)
    for way in arguments.alternatives:
        wall = record[way][0]["wall"]
        accuracy = f"{100 * record[way][0]['accuracy']:.1f}" if "accuracy" in record[way][0] else ""
        name = way + record[way][0].get("fraction", "")
        rows.append((name, f"{wall:.1f}", "", "", f"{wall / best:.1f} x sktl, cold", accuracy))
    images = next(iter(record.values()))[0]["images"]
    title = f"One fit on {images} photos, and accuracy on the test photos (alternatives: fit and scoring)."
    header = ("way", "s", "of it training", "opening the network alone", "the rest / bare pass", "accuracy in %")
    report("single_fit", title, header, rows, record)
    if arguments.write:
        write_page("single_fit", arguments.write)


if __name__ == "__main__":
    main()
