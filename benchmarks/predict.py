"""Images a second of `predict` on decoded arrays, beside the bare engines on the same arrays with the same resize.

    python benchmarks/predict.py DATA/cat_breeds [--images 400] [--repeats 3] [--write docs/benchmarks.md]

Every way resizes the same decoded photos, scales and normalises them and runs the network, in the same process: torch
as people write it (batches of 64, NCHW, all intra-op threads), ONNX Runtime, and OpenVINO with a stream per core; sktl
does the same through `decision_function`, with nothing cached. The median over repeats, in turn.
"""

import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import alternatives
import numpy as np
import torch
from measuring import folders, report, write_page

from sktl import PretrainedImageClassifier

CHUNK = 4


def resized(images):
    """Resize in a thread per core, as a careful user would."""
    change = alternatives.transform()
    from PIL import Image

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(lambda image: change(Image.fromarray(image)), images))


def plain_torch():
    model = alternatives.network()

    def run(images):
        tensors = resized(images)
        with torch.inference_mode():
            return torch.cat([model(torch.stack(tensors[i : i + 64])) for i in range(0, len(tensors), 64)])

    return run


def onnx_runtime():
    import io

    import onnxruntime

    file = io.BytesIO()
    example = torch.zeros(CHUNK, 3, 224, 224)
    torch.onnx.export(alternatives.network(), (example,), file, input_names=["images"], dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

    def run(images):
        chunks = stacked(resized(images))
        return np.concatenate([session.run(None, {"images": chunk})[0] for chunk in chunks])

    return run


def openvino():
    import openvino as ov

    model = ov.convert_model(alternatives.network(), example_input=torch.zeros(CHUNK, 3, 224, 224))
    model.reshape([CHUNK, 3, 224, 224])
    settings = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(model, "CPU", settings)

    def run(images):
        """Decode and infer in one thread per core, each with its own request."""
        change = alternatives.transform()
        from PIL import Image

        def chunk(start):
            some = images[start : start + CHUNK]
            batch = np.zeros((CHUNK, 3, 224, 224), np.float32)
            for slot, image in enumerate(some):
                batch[slot] = change(Image.fromarray(image))
            return compiled.create_infer_request().infer([batch])[0][: len(some)].copy()

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.concatenate(list(pool.map(chunk, range(0, len(images), CHUNK))))

    return run


def stacked(tensors):
    whole = torch.stack(tensors).numpy()
    pad = np.zeros((-len(whole) % CHUNK, *whole.shape[1:]), np.float32)
    return np.split(np.concatenate([whole, pad]), (len(whole) + len(pad)) // CHUNK)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    train, test = folders(arguments.data)
    few = (train[0][:240], train[1][:240])
    images = [np.asarray(alternatives.load(path)) for path in test[0][: arguments.images]]
    ways = {"torch, NCHW, batches of 64": plain_torch(), "ONNX Runtime": onnx_runtime(), "OpenVINO": openvino()}
    for engine in ("torch", "openvino"):
        clf = PretrainedImageClassifier(random_state=0, engine=engine, cache=False).fit(*few)
        ways[f"sktl, {engine}"] = clf.decision_function
    seconds = {name: [] for name in ways}
    for run in ways.values():
        run(images[:16])
    for _ in range(arguments.repeats):
        for name, run in ways.items():
            started = time.perf_counter()
            run(images)
            seconds[name].append(time.perf_counter() - started)
    rates = {name: len(images) / statistics.median(values) for name, values in seconds.items()}
    rows = []
    for name, rate in rates.items():
        plain, bare = rate / rates["torch, NCHW, batches of 64"], rate / rates["OpenVINO"]
        rows.append((name, f"{rate:.0f}", f"{plain:.2f}", f"{bare:.2f}"))
    header = ("way", "images / s", "/ plain torch", "/ bare OpenVINO")
    report("predict", f"Prediction of {len(images)} decoded photos.", header, rows, seconds)
    if arguments.write:
        write_page("predict", arguments.write)


if __name__ == "__main__":
    main()
