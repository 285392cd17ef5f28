"""A grid search of 12 candidates in 5 folds, and a cross-validation, beside one fit and what people write without sktl.

    python benchmarks/search.py DATA/cat_breeds [--repeats 1] [--write docs/benchmarks.md]

Each measurement is made in a fresh process with an empty cache, imports not counted; neither is the start of the worker
processes with theirs, which is measured alone. Training of output layers is timed in each fit, and what two processes
spend at once counts half. Alternatives that would take hours run a fraction of the search, which the table states, and
are extrapolated. "lr" is a search over learning rates, with which the output layer is trained in steps.
"""

import argparse
import json
import sys
import tempfile

import alternatives
import numpy as np
from measuring import Timed, accuracy, folders, head, measure, median, report, timed, write_page

GRIDS = {
    "values": {"feature_stages": [1, 2], "weight_decay": [0.3, 0.1, 0.03, 0.01, 0.003, 0.001]},
    "lr": {"lr": [0.003, 0.01, 0.03, 0.1], "weight_decay": [0.01, 0.03, 0.1]},
}
# How each way of sktl computes: the grid of a search, None for a cross-validation of the defaults, and `n_jobs`.
OWN = {
    "n_jobs=1": ("values", 1),
    "n_jobs=2": ("values", 2),
    "cross_validate, n_jobs=1": (None, 1),
    "cross_validate, n_jobs=2": (None, 2),
    "lr, n_jobs=1": ("lr", 1),
    "lr, n_jobs=2": ("lr", 2),
}
FOLDS, CANDIDATES = 5, 12
FITS = FOLDS * CANDIDATES + 1


def one_fit(train, test, record):
    start()
    with timed(record, "wall"):
        clf = Timed(random_state=0).fit(*train)
    record |= {"head": clf.head_seconds_, "accuracy": float(clf.score(*test))}


def sktl(train, test, grid, n_jobs, record):
    from sklearn.model_selection import GridSearchCV, cross_validate

    start()
    options = {"cv": FOLDS, "n_jobs": n_jobs, "scoring": {"accuracy": accuracy, "head": head}}
    if grid is None:
        with timed(record, "wall"):
            found = cross_validate(Timed(random_state=0), *train, **options)
        record["head"] = float(found["test_head"].sum() / n_jobs)
    else:
        search = GridSearchCV(Timed(random_state=0), GRIDS[grid], refit="accuracy", **options)
        with timed(record, "wall"):
            search.fit(*train)
        heads = sum(search.cv_results_[f"split{i}_test_head"].sum() for i in range(FOLDS))
        # The worker processes train at once, before the last fit begins.
        record["head"] = float(heads / n_jobs + search.best_estimator_.head_seconds_)
        record["accuracy"] = float(search.best_estimator_.score(*test))
    if n_jobs > 1:
        record["wall"] -= start_of_workers(n_jobs, record)


def start_of_workers(n_jobs, record):
    """Return how long new worker processes take to start; not before: joblib ends workers that grow by 300 MB."""
    import joblib
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)
    with timed(record, "start"):
        joblib.Parallel(n_jobs)(joblib.delayed(start)() for _ in range(n_jobs))
    return record["start"]


def start():
    """Import what a process needs."""
    from sktl._features import openvino as _openvino

    if _openvino._is_installed():
        _openvino.library()


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
    """Time the first epochs of one fit on four fifths of the images."""
    n = len(train[0]) * (FOLDS - 1) // FOLDS
    few = (train[0][:n], train[1][:n])
    epochs = {"skorch": alternatives.EPOCHS, "fastai": alternatives.FASTAI_EPOCHS}[name]
    with timed(record, "first"):
        alternatives.WAYS[name](few, (train[0][n:], train[1][n:]), epochs=alternatives.LEAST_EPOCHS)
    record["wall"] = record["first"] * epochs * FITS / alternatives.LEAST_EPOCHS
    record["fraction"] = f"{alternatives.LEAST_EPOCHS} of {epochs * FITS} epochs"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--repeats", type=int, default=1)
    ways = ["one fit", *OWN, "pipeline, memory=", "pipeline", "skorch", "fastai"]
    parser.add_argument("--ways", nargs="*", choices=ways, default=ways)
    parser.add_argument("--write", help="page whose table is replaced")
    parser.add_argument("--measure", choices=ways, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(one(arguments)))
        return
    record = {}
    for repeat in range(arguments.repeats):
        for way in arguments.ways:
            if repeat and way not in ("one fit", *OWN):  # takes long, and is far behind
                continue
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
    elif way == "one fit":
        one_fit(train, test, record)
    else:
        sktl(train, test, *OWN[way], record)
    return record


def tell(arguments, record):
    rows = []
    best = min(median(record[way], "wall") for way in ("n_jobs=1", "n_jobs=2") if way in record)
    for way, runs in record.items():
        wall = median(runs, "wall")
        name, training, relation = way, "", ""
        if "head" in runs[0]:
            name, training = f"sktl, {way}", f"{median(runs, 'head'):.1f}"
        if "one fit" in record and way in OWN:
            relation = f"{wall / median(record['one fit'], 'wall'):.2f}"
        accuracy = f"{100 * runs[0]['accuracy']:.1f}" if "accuracy" in runs[0] else ""
        rows.append(
            (name, f"{wall:.1f}", training, relation, f"{wall / best:.1f}", accuracy, runs[0].get("fraction", ""))
        )
    title = f"GridSearchCV of {CANDIDATES} candidates in {FOLDS} folds."
    header = ("way", "s", "of it training", "times one fit", "ratio", "accuracy in %", "extrapolated from")
    report("search", title, header, rows, record)
    if arguments.write:
        write_page("search", arguments.write)


if __name__ == "__main__":
    main()
