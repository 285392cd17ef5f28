"""What the benchmark scripts share: fresh processes in turn, medians, tables with the machine and the date."""

import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sktl import PretrainedImageClassifier

RESULTS = Path(__file__).parent / "results"


def folders(data):
    """Return (paths, codes) of the training and of the test images of a data set, each class evenly spread."""
    from sktl.datasets import load_image_folder

    train, test = (load_image_folder(Path(data) / part) for part in ("train", "test"))
    classes = np.unique(train.target)
    parts = []
    for part in (train, test):
        order = np.random.default_rng(0).permutation(len(part.target))
        parts.append(([part.data[i] for i in order], np.searchsorted(classes, part.target)[order]))
    return parts


def measure(script, *arguments):
    """Run a benchmark script in a fresh process; it prints one JSON object as its last line."""
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


@contextmanager
def timed(record, name):
    """Note the wall seconds and the CPU seconds of this process of a block."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    record[name] = time.perf_counter() - wall
    record[f"{name} cpu"] = time.process_time() - cpu


@contextmanager
def head_seconds(record):
    """Note how long the trainings of output layers within a block take together, in this process."""
    from sktl import _classifier

    original, spent = _classifier.train_head, []

    def train_head(*args, **kwargs):
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - started)

    _classifier.train_head = train_head
    try:
        yield
    finally:
        _classifier.train_head = original
        record["head"] = sum(spent)


class Timed(PretrainedImageClassifier):
    """Notes how long the training of its output layer took, in whatever process; `head` is a scorer that tells it."""

    def fit(self, X, y):  # noqa: D102
        record = {}
        with head_seconds(record):
            super().fit(X, y)
        self.head_seconds_ = record["head"]
        return self


def accuracy(clf, X, y):
    return clf.score(X, y)


def head(clf, X, y):
    return clf.head_seconds_


def median(rows, name):
    return statistics.median(row[name] for row in rows)


def machine():
    return f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores; {datetime.date.today()}"


def report(name, title, header, rows, record):
    """Print a table, and write it and what it was made from under benchmarks/results/."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    text = f"{title}\nMachine: {machine()}.\n\n" + "\n".join(lines) + "\n"
    print("\n" + text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), "table": text, "runs": record}, indent=1))


def write_page(name, page):
    """Replace the block of a page between its marks by the table that a benchmark wrote."""
    write_block(name, json.loads((RESULTS / f"{name}.json").read_text())["table"], page)


def write_block(name, text, page):
    """Replace the block of a page between the marks of a name."""
    page = Path(page)
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(before + begin + text.rstrip() + "\n" + end + after)
