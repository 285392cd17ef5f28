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

sys.path.insert(0, str(Path(__file__).parents[1] / "docs"))

import measured

RESULTS = Path(__file__).parent / "results"


def folders(data):
    """Return (paths, codes) of the training and of the test images of a dataset, each class evenly spread."""
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
    """Note how long choices and trainings of output layers within a block take together, in this process."""
    from sktl._estimators import predictor as _predictor

    originals = {name: getattr(_predictor, name) for name in ("choose", "train_head")}
    spent = []

    def timing(original):
        def run(*args, **kwargs):
            started = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - started)

        return run

    for name, original in originals.items():
        setattr(_predictor, name, timing(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(_predictor, name, original)
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
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {platform.system()}, {cores} core{'s' * (cores > 1)}; {datetime.date.today()}"


def command():
    """Return how the script was called, with the folders of this machine left out."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    arguments = iter(sys.argv[1:])
    for word in arguments:
        if word in ("--write", "--cache", "--pairs"):
            next(arguments)
        elif Path(word).is_dir():
            words.append(f"DATA/{Path(word).name}" if (Path(word) / "train").is_dir() else "DATA")
        else:
            words.append(f'"{word}"' if " " in word else word)
    return " ".join(words)


def table(header, rows):
    """Return the lines of a table."""
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    return lines + [f"| {' | '.join(map(str, row))} |" for row in rows]


def report(name, title, header, rows, record):
    """Print a table, and write it and what it was made from under benchmarks/results/."""
    note(name, [title, f"Machine: {machine()}.", "", *table(header, rows)], record)


def note(name, lines, record):
    """Print the lines of a text, and write it and what it was made from under benchmarks/results/."""
    print("\n" + "\n".join(lines))
    RESULTS.mkdir(exist_ok=True)
    found = {"command": command(), "machine": machine(), "text": lines, "runs": record}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1))


def write_page(name, page):
    """Show what a benchmark reported between its marks on a page, and keep it with the documentation."""
    measured.keep(name, json.loads((RESULTS / f"{name}.json").read_text()), Path(page))


def write_block(name, text, page, record):
    """Show a text between its marks on a page, and keep it and what it was made from with the documentation."""
    found = {"command": command(), "machine": machine(), "text": text.rstrip().splitlines(), "runs": record}
    measured.keep(name, found, Path(page))
