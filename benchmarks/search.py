"""A grid search of 12 candidates in 5 folds, beside one fit and what people write without this library.

    python benchmarks/search.py DATA/cat_breeds [--repeats 1] [--write docs/speed.md]

Each measurement is made in a fresh process with an empty cache, imports not counted; neither is the start of the worker
processes with theirs, which is measured alone. Alternatives that would take hours run a fraction of the search, which
the table states, and are extrapolated.
"""

import argparse
import json
import sys
import tempfile

import alternatives
import numpy as np
from measuring import folders, head_seconds, measure, median, report, timed, write_page

GRID = {"lr": [0.003, 0.01, 0.03, 0.1], "weight_decay": [0.01, 0.03, 0.1]}
FOLDS, CANDIDATES = 5, 12
FITS = FOLDS * CANDIDATES + 1


def sktl(train, test, n_jobs, record):
    import joblib
    from joblib.externals.loky import get_reusable_executor
    from sklearn.model_selection import GridSearchCV

    from sktl import PretrainedImageClassifier

    if n_jobs == 0:
        with head_seconds(record), timed(record, "wall"):
            clf = PretrainedImageClassifier(random_state=0).fit(*train)
        record["accuracy"] = float(clf.score(*test))
        return
    search = GridSearchCV(PretrainedImageClassifier(random_state=0), GRID, cv=FOLDS, n_jobs=n_jobs)
    with head_seconds(record), timed(record, "wall"):
        search.fit(*train)
    record["accuracy"] = float(search.score(*test))
    if n_jobs > 1:  # Not before: joblib ends workers that grow by 300 MB after their first task.
        get_reusable_executor().shutdown(wait=True)
        with timed(record, "start"):
            joblib.Parallel(n_jobs)(joblib.delayed(start)() for _ in range(n_jobs))
        record["wall"] -= record["start"]


def start():
    """Let a worker process import what it needs."""
    import sktl

    return sktl.__name__


def pipeline(train, test, memory, record):
    """Search the regularisation of a pipeline: all of it with `memory`, else one candidate in all folds."""
    from sklearn.model_selection import GridSearchCV

    values = np.logspace(-4, 1, CANDIDATES) if memory else [0.01]
    with tempfile.TemporaryDirectory() as folder:
        steps = alternatives.pipeline(folder if memory else None)
        search = GridSearchCV(steps, {"logisticregression__C": values}, cv=FOLDS, refit=memory)
        with timed(record, "wall"):
            search.fit(list(train[0]), train[1])
    if memory:
        record["accuracy"] = float(search.score(list(test[0]), test[1]))
    else:
        record["wall"] *= CANDIDATES
        record["fraction"] = f"1 of {CANDIDATES} candidates"


def neural(train, test, name, record):
    """Time one epoch of one fit on four fifths of the images."""
    n = len(train[0]) * (FOLDS - 1) // FOLDS
    few = (train[0][:n], train[1][:n])
    epochs = {"skorch": alternatives.EPOCHS, "fastai": 5}[name]
    with timed(record, "one"):
        alternatives.WAYS[name](few, (train[0][n:], train[1][n:]), epochs=1)
    record["wall"] = record["one"] * epochs * FITS
    record["fraction"] = f"1 of {epochs * FITS} epochs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=1)
    ways = ["one fit", "n_jobs=1", "n_jobs=2", "pipeline, memory=", "pipeline", "skorch", "fastai"]
    parser.add_argument("--ways", nargs="*", choices=ways, default=ways)
    parser.add_argument("--write", help="page whose table is replaced")
    parser.add_argument("--measure", choices=ways, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(one(arguments)))
        return
    record = {}
    for _ in range(arguments.repeats):
        for way in arguments.ways:
            record.setdefault(way, []).append(measure(__file__, arguments.data, "--measure", way))
            print(way, record[way][-1], file=sys.stderr, flush=True)
    tell(arguments, record)


def one(arguments):
    train, test = folders(arguments.data)
    way, record = arguments.measure, {}
    if way.startswith("pipeline"):
        pipeline(train, test, "memory" in way, record)
    elif way in alternatives.WAYS:
        neural(train, test, way, record)
    else:
        sktl(train, test, {"one fit": 0, "n_jobs=1": 1, "n_jobs=2": 2}[way], record)
    return record


def tell(arguments, record):
    rows = []
    fit = record.get("one fit")
    heads = median(record["n_jobs=1"], "head") if "n_jobs=1" in record else float("nan")
    best = min(median(record[way], "wall") for way in record if way.startswith("n_jobs"))
    for way, runs in record.items():
        wall = median(runs, "wall")
        accuracy = f"{100 * runs[0]['accuracy']:.1f}" if "accuracy" in runs[0] else ""
        relation = ""
        if fit and way.startswith("n_jobs"):
            n_jobs = int(way[-1])
            pass_seconds = median(fit, "wall") - median(fit, "head")
            relation = f"{(wall - heads / n_jobs) / pass_seconds:.2f}"
        name = f"sktl, {way}" if "head" in runs[0] else way
        cells = (f"{wall:.1f}", relation, f"{wall / best:.1f}", accuracy, runs[0].get("fraction", ""))
        rows.append((name, *cells))
    title = (
        f"GridSearchCV of {CANDIDATES} candidates in {FOLDS} folds, of which training takes {heads:.1f} s on one core."
    )
    header = ("way", "s", "without training / one fit's pass", "ratio", "accuracy in %", "extrapolated from")
    report("search", title, header, rows, record)
    if arguments.write:
        write_page("search", arguments.write)


if __name__ == "__main__":
    main()
