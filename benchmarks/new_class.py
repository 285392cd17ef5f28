"""A new class with few images beside classes of ten images: how many of its other images each method finds.

    python benchmarks/new_class.py DATA/cat_breeds [--write docs/guide/little_data.md]

Each class of train/ is new in turn, beside the three classes that follow it in the alphabet. Ten images of each of
these three and `n` images of the new class train; twenty other images of each of the four classes are the pool.
"""

import argparse
import sys

import numpy as np
from measuring import folders, report, write_page
from sklearn.neighbors import NearestNeighbors

from sktl import PretrainedImageClassifier, PretrainedImageEncoder

N_OLD, N_POOL, N_NEW = 10, 20, (1, 2, 3, 5)
WAYS = {"default": {}, '`class_weight="balanced"`': {"class_weight": "balanced"}}
NEIGHBORS = "nearest images"


def split(codes, new, n, n_classes):
    """Return the rows that train and the rows of the pool."""
    parts = []
    for code in [(new + i) % n_classes for i in range(4)]:
        rows = np.flatnonzero(codes == code)[: N_OLD + N_POOL]
        parts.append((rows[: n if code == new else N_OLD], rows[N_OLD:]))
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def found_by_fit(params, paths, codes, train, pool, new):
    """Return the recall of the new class in the pool, and the accuracy of all four classes."""
    clf = PretrainedImageClassifier(random_state=0, **params).fit(paths[train], codes[train])
    predicted = clf.predict(paths[pool])
    return float((predicted == new)[codes[pool] == new].mean()), float((predicted == codes[pool]).mean())


def found_by_neighbors(features, codes, train, pool, new):
    """Return which share of the new class is among as many images of the pool, the most similar to its images."""
    neighbors = NearestNeighbors(n_neighbors=1, metric="cosine").fit(features[train[codes[train] == new]])
    distances, _ = neighbors.kneighbors(features[pool])
    first = distances[:, 0].argsort(kind="stable")[:N_POOL]
    return float((codes[pool[first]] == new).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    paths, codes = folders(arguments.data)[0]
    paths, n_classes = np.array(paths), codes.max() + 1
    rows = np.sort(np.concatenate([np.flatnonzero(codes == code)[: N_OLD + N_POOL] for code in range(n_classes)]))
    paths, codes = paths[rows], codes[rows]
    features = PretrainedImageEncoder().fit_transform(paths)
    record = {}
    for n in N_NEW:
        record[n] = {way: [] for way in [*WAYS, NEIGHBORS]}
        for new in range(n_classes):
            train, pool = split(codes, new, n, n_classes)
            for way, params in WAYS.items():
                record[n][way].append(found_by_fit(params, paths, codes, train, pool, new))
            record[n][NEIGHBORS].append(found_by_neighbors(features, codes, train, pool, new))
        print(n, {way: np.mean(runs, axis=0) for way, runs in record[n].items()}, file=sys.stderr, flush=True)
    table = []
    for n, runs in record.items():
        fits = [" / ".join(f"{100 * mean:.0f}" for mean in np.mean(runs[way], axis=0)) for way in WAYS]
        table.append((n, *fits, f"{100 * np.mean(runs[NEIGHBORS]):.0f}"))
    title = (
        f"Percentage of {N_POOL} images of a new class that are predicted as this class / accuracy of the new and "
        f"three other classes, which have {N_OLD} training images each; and percentage of the new class among the "
        f"{N_POOL} images of the pool that are most similar to the new class's training images. Mean over {n_classes} "
        "new classes."
    )
    report("new_class", title, ("images of the new class", *WAYS, NEIGHBORS), table, record)
    if arguments.write:
        write_page("new_class", arguments.write)


if __name__ == "__main__":
    main()
