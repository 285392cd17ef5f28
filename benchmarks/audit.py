"""What an audit finds: wrong labels, copies of images, and how long it takes.

    python benchmarks/audit.py DATA [--sets NAME ...] [--cache FOLDER] [--parts labels copies leaks time]
        [--pairs FOLDER] [--write docs/guide/clean_data.md]

DATA holds one folder per dataset with train/<class>/* and test/<class>/*, or with labels.csv for several labels.

labels: 5 and 10 % of the labels of train/ are changed at random, three times. The figures are the area under the ROC
curve of the audit's probability of the own label, and the precision among the k most suspicious images, for k wrong
labels. The latter is compared with confident learning (C. Northcutt, L. Jiang and I. Chuang, "Confident Learning:
Estimating Uncertainty in Dataset Labels", JAIR 2021), by the rule of the paper and, if it is installed, by cleanlab.

copies: 60 images of each set are copied in each of twelve ways; each image is copied once. The figures are the share of
copies that are in one group with their originals, and the number of pairs that are confirmed among the originals.
Constants were chosen on other originals, which are left out, except for the limit of contradictions and the steps and
pixels of the alignment. --pairs writes pictures of pairs of originals.

leaks: the pairs that lie across train and test, and the accuracy on all test images and on those without a copy in
train.

time: an audit of the images of all sets, with cached features, in a fresh process.

Prints tables and writes benchmarks/results/audit_<part>.json.
"""

import argparse
import csv
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import measure, report, write_page
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from sklearn.metrics import roc_auc_score

from sktl import PretrainedImageClassifier, audit_images
from sktl._audit.audit_images import _Given, _Usable
from sktl._audit.copies import find_copies
from sktl._audit.copy_confirmation import near_copies
from sktl._audit.out_of_fold import learner_of, out_of_fold
from sktl._audit.suspicious_labels import LabeledRows, LabelModel, Votes, label_issues
from sktl._targets.sample_groups import joined_groups
from sktl._utils.settings_isolation import isolated
from sktl._utils.threads import single_threaded_pool
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits", "ucmerced_multilabel")
SHARES, SEEDS = (0.05, 0.10), (0, 1, 2)
N_PLANTED, N_TUNED, N_SHOWN = 60, 120, 50


def read(folder):
    """Return paths, targets and whether an image is in train/."""
    if (folder / "labels.csv").exists():
        rows = [*csv.DictReader((folder / "labels.csv").open())]
        labels = [name for name in rows[0] if name not in ("image", "split")]
        targets = np.array([[int(row[label]) for label in labels] for row in rows])
        return (
            [str(folder / row["image"]) for row in rows],
            targets,
            np.array([row["split"] == "train" for row in rows]),
        )
    parts = [load_image_folder(folder / part) for part in ("train", "test")]
    paths = [str(path) for part in parts for path in part.data]
    return paths, np.concatenate([part.target for part in parts]), np.arange(len(paths)) < len(parts[0].data)


def classifier(arguments):
    return PretrainedImageClassifier(cache=arguments.cache, random_state=0)


# ------------------------------------------------------------------------------------------------------- wrong labels


def confident_learning(probabilities, codes):
    """Return images by the rule of the paper: flagged by the confident joint first, then by their margin.

    A class is confident for an image if its probability is at least the mean self-confidence of the class. An image is
    flagged if the most probable confident class is not its own.
    """
    n = len(codes)
    own = probabilities[np.arange(n), codes]
    thresholds = np.array([own[codes == code].mean() for code in range(probabilities.shape[1])])
    confident = np.where(probabilities >= thresholds, probabilities, -1)
    flagged = (confident.max(axis=1) >= 0) & (confident.argmax(axis=1) != codes)
    others = probabilities.copy()
    others[np.arange(n), codes] = -1
    return np.lexsort((own - others.max(axis=1), ~flagged)), flagged


def cleanlab_order(probabilities, codes):
    """Return images as cleanlab orders them, and those that it flags; None if it is not installed."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError:
        return None
    flagged = find_label_issues(codes, probabilities, n_jobs=1)
    return np.lexsort((get_label_quality_scores(codes, probabilities), ~flagged)), flagged


@isolated()
def wrong_labels(folder, arguments):
    """Return the figures of each share and seed."""
    train = load_image_folder(folder / "train")
    classes, right = np.unique(train.target, return_inverse=True)
    clf, n = classifier(arguments), len(right)
    given = _Given.of(train.data, train.target, None, None, None, None, clf)
    with single_threaded_pool(2) as pool:
        usable = _Usable.of(given.subjects, clf, pool)
        copies = find_copies(usable.thumbnails, given.subjects.samples, usable.own, pool)
    learner = learner_of(clf, train.data.take, usable.features, usable.layout, (0, 0))
    found = []
    for share in SHARES:
        for seed in SEEDS:
            rng = np.random.default_rng(seed)
            wrong = np.zeros(n, dtype=bool)
            wrong[rng.choice(n, round(share * n), replace=False)] = True
            codes = np.where(wrong, (right + rng.integers(1, len(classes), n)) % len(classes), right)
            targets = clf._check_targets(classes[codes], None, n)
            targets = targets.with_changes(groups=joined_groups(copies.contents, None, n))
            rows = LabeledRows(targets, classes[codes], np.arange(n))
            model = LabelModel.of(learner, rows, Votes.of(targets, copies.contents, copies.components), 5, 0)
            plain = out_of_fold(learner.tuned(targets, np.arange(n)), targets, classes[codes], np.arange(n), 5, 0)
            own = model.found.values[np.arange(n), codes]
            listed = [
                issue.position
                for issue in label_issues(
                    targets, model.found.values, model.found.learned, np.arange(n), given.subjects
                )
            ]
            k = wrong.sum()
            precision = {"audit": np.argsort(own, kind="stable")}
            precision["own probability, one round"] = np.argsort(plain.values[np.arange(n), codes], kind="stable")
            precision["confident learning"], flagged = confident_learning(plain.values, codes)
            if (others := cleanlab_order(plain.values, codes)) is not None:
                precision["cleanlab"] = others[0]
            found.append(
                {
                    "share": share,
                    "seed": seed,
                    "area": float(roc_auc_score(wrong, -own)),
                    "area, one round": float(roc_auc_score(wrong, -plain.values[np.arange(n), codes])),
                    "precision": {name: float(wrong[order[:k]].mean()) for name, order in precision.items()},
                    "listed": len(listed),
                    "wrong": int(k),
                    "precision of listed": float(wrong[listed].mean()) if listed else 0.0,
                    "recall of listed": float(wrong[listed].sum() / k),
                    "flagged by confident learning": int(flagged.sum()),
                    "precision of flagged": float(wrong[flagged].mean()) if flagged.any() else 0.0,
                }
            )
    return found


def labels(arguments):
    results, rows = {}, []
    for name in arguments.sets:
        if (arguments.data / name / "labels.csv").exists():
            continue
        runs = results[name] = wrong_labels(arguments.data / name, arguments)
        for share in SHARES:
            some = [run for run in runs if run["share"] == share]
            names = some[0]["precision"]
            means = [f"{100 * np.mean([run['precision'][way] for run in some]):.1f}" for way in names]
            areas = [run["area"] for run in some]
            listed = [
                np.mean([run[key] for run in some]) for key in ("listed", "precision of listed", "recall of listed")
            ]
            rows.append(
                (
                    name, f"{share:.0%}", f"{np.mean(areas):.4f} ({min(areas):.4f})", *means,
                    f"{listed[0]:.0f} of {some[0]['wrong']}, {100 * listed[1]:.0f} / {100 * listed[2]:.0f}",
                )
            )  # fmt: skip
            print(rows[-1], flush=True)
    header = (
        "set", "wrong labels", "area (lowest)", *(f"precision at k: {way}" for way in names),
        "listed of k wrong; precision / recall in %",
    )  # fmt: skip
    report(
        "audit_labels",
        "Detection of k wrong labels, averaged over three seeds; precision (%) among the k most suspicious labels.",
        header,
        rows,
        results,
    )


# ------------------------------------------------------------------------------------------------------------- copies


def crop(image, share, rng):
    width, height = image.size
    w, h = round(width * share), round(height * share)
    x, y = rng.integers(0, width - w + 1), rng.integers(0, height - h + 1)
    return image.crop((x, y, x + w, y + h))


def center(image, width, height):
    """Return the center of an image, with these shares of its sides."""
    left, top = round((1 - width) / 2 * image.width), round((1 - height) / 2 * image.height)
    return image.crop((left, top, image.width - left, image.height - top))


WAYS = {
    "JPEG 40": lambda image, rng: image,
    "half size": lambda image, rng: image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.LANCZOS),
    "crop 90 %": lambda image, rng: crop(image, 0.9, rng),
    "crop 75 %": lambda image, rng: crop(image, 0.75, rng),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "brightness 1.3": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.3),
    "gray": lambda image, rng: image.convert("L").convert("RGB"),
    "quarter turn": lambda image, rng: image.transpose(Image.Transpose.ROTATE_90),
    "rotated by 5°": lambda image, rng: image.rotate(5, Image.BICUBIC),
    "width 75 %": lambda image, rng: center(image, 0.75, 1),
    "height 75 %": lambda image, rng: center(image, 1, 0.75),
    "bars": lambda image, rng: ImageOps.pad(image, (image.width, round(image.height * 1.3))),
}


def plant(paths, folder):
    """Write copies of some of the images on which nothing was chosen. Return their paths, ways and originals."""
    tuned = np.random.default_rng(0).choice(len(paths), N_TUNED, replace=False)
    rng = np.random.default_rng(1)
    others = rng.permutation(np.setdiff1d(np.arange(len(paths)), tuned))
    planted = []
    for number, way in enumerate(WAYS):
        for original in others[number * N_PLANTED : (number + 1) * N_PLANTED]:
            image = ImageOps.exif_transpose(Image.open(paths[original])).convert("RGB")
            path = folder / f"{number}_{original}.jpg"
            WAYS[way](image, rng).save(path, quality=40 if way == "JPEG 40" else 90)
            planted.append((str(path), way, int(original)))
    return planted


@isolated()
def recall(paths, arguments):
    """Return the share of copies in one group with their original, for each way."""
    with tempfile.TemporaryDirectory() as folder, single_threaded_pool(2) as pool:
        planted = plant(paths, Path(folder))
        clf = PretrainedImageClassifier(cache=arguments.cache, random_state=0)
        given = _Given.of([*paths, *(path for path, *_ in planted)], None, None, None, None, None, clf)
        usable = _Usable.of(given.subjects, clf, pool)
        copies = find_copies(usable.thumbnails, given.subjects.samples, usable.own, pool)
    found = {way: [] for way in WAYS}
    for position, (_, way, original) in enumerate(planted, start=len(paths)):
        found[way].append(bool(copies.components[position] == copies.components[original]))
    return {way: float(np.mean(some)) for way, some in found.items()}


@isolated()
def pairs_of(paths, arguments):
    """Return the pairs of originals that are confirmed and their scores, the highest first."""
    clf = classifier(arguments)
    given = _Given.of(paths, None, None, None, None, None, clf)
    with single_threaded_pool(2) as pool:
        usable = _Usable.of(given.subjects, clf, pool)
        return near_copies(usable.thumbnails, given.subjects.samples, usable.own, pool)


def show(paths, pairs, scores, target, side=150, n_columns=5):
    """Write pairs as a picture."""
    n_rows = -(-len(pairs) // n_columns)
    sheet = Image.new("RGB", (n_columns * (2 * side + 8), n_rows * (side + 14)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (pair, score) in enumerate(zip(pairs, scores, strict=True)):
        x, y = number % n_columns * (2 * side + 8), number // n_columns * (side + 14)
        pen.text((x, y), f"{score:.3f}", fill="black")
        for place, i in enumerate(pair):
            sheet.paste(Image.open(paths[i]).convert("RGB").resize((side, side)), (x + place * side, y + 12))
    sheet.save(target)


def copies(arguments):
    results, rows = {}, []
    for name in arguments.sets:
        paths, *_ = read(arguments.data / name)
        found = recall(paths, arguments)
        pairs, scores = pairs_of(paths, arguments)
        if arguments.pairs:
            show(paths, pairs[:N_SHOWN], scores[:N_SHOWN], Path(arguments.pairs) / f"{name}_highest.png")
            show(paths, pairs[-N_SHOWN:], scores[-N_SHOWN:], Path(arguments.pairs) / f"{name}_lowest_confirmed.png")
        results[name] = {
            "recall": found,
            "confirmed": len(pairs),
            "scores": scores[:200].round(4).tolist(),
        }
        rows.append((name, *(f"{100 * found[way]:.0f}" for way in WAYS), results[name]["confirmed"]))
        print(rows[-1], flush=True)
    title = (
        f"Percentage of {N_PLANTED} copies of each kind that were found, and number of pairs of originals that were "
        "confirmed as copies."
    )
    report("audit_copies", title, ("set", *WAYS, "pairs of originals"), rows, results)


# -------------------------------------------------------------------------------------------------------------- leaks


def leaks(arguments):
    results, rows = {}, []
    for name in arguments.sets:
        if (arguments.data / name / "labels.csv").exists():
            continue
        train, test = (load_image_folder(arguments.data / name / part) for part in ("train", "test"))
        audit = audit_images(train.data, X_test=test.data, estimator=classifier(arguments), random_state=0)
        crossing = audit.issues[audit.issues["crosses"] == "test"]
        sides = [
            (row["position"], row["other_position"])
            if row["part"] == "test"
            else (row["other_position"], row["position"])
            for row in crossing
        ]
        leaked = np.unique([of_test for of_test, _ in sides]).astype(int)
        clf = classifier(arguments).fit(train.data, train.target)
        hits = clf.predict(test.data) == test.target
        is_clean = ~np.isin(np.arange(len(hits)), leaked)
        kept = np.setdiff1d(np.arange(len(train.data)), [of_train for _, of_train in sides])
        fewer = classifier(arguments).fit([train.data[i] for i in kept], train.target[kept])
        results[name] = {
            "near copies": int((audit.issues["kind"] == "near_copy").sum()),
            "exact copies": int((audit.issues["kind"] == "exact_copy").sum()),
            "across": len(sides),
            "leaked test images": len(leaked),
            "test images": len(hits),
            "accuracy": float(hits.mean()),
            "accuracy on leaked": float(hits[~is_clean].mean()) if len(leaked) else None,
            "accuracy on others": float(hits[is_clean].mean()) if is_clean.any() else None,
            "accuracy without them in train": float((fewer.predict(test.data) == test.target).mean()),
        }
        shown = [
            "" if value is None else f"{100 * value:.1f}" if key.startswith("accuracy") else value
            for key, value in results[name].items()
        ]
        rows.append((name, *shown))
        print(rows[-1], flush=True)
    report(
        "audit_leaks",
        "Copies across train and test, and accuracy in %.",
        ("set", *next(iter(results.values()))),
        rows,
        results,
    )


# --------------------------------------------------------------------------------------------------------------- time


def timed_audit(arguments):
    """Audit the images of all sets together, as one set with the classes of all sets, and print what it took."""
    paths, y = [], []
    for name in arguments.sets:
        some, targets, _ = read(arguments.data / name)
        paths += some
        y += [f"{name} {target}" for target in targets] if targets.ndim == 1 else [name] * len(some)
    clf = classifier(arguments)
    if arguments.warm:
        clf.fit(paths, y)
        return print(json.dumps({}))
    started, cpu = time.perf_counter(), time.process_time()
    audit = audit_images(paths, y, estimator=clf, random_state=0)
    record = {"s": time.perf_counter() - started, "cpu s": time.process_time() - cpu, "images": len(paths)}
    record["GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record["issues"] = {
        str(kind): int((audit.issues["kind"] == kind).sum()) for kind in np.unique(audit.issues["kind"])
    }
    return print(json.dumps(record))


def seconds(arguments):
    options = [str(arguments.data), "--sets", *arguments.sets, "--cache", arguments.cache, "--child"]
    measure(__file__, *options, "--warm")
    record = measure(__file__, *options)
    row = (record["images"], f"{record['s']:.1f}", f"{record['cpu s']:.1f}", f"{record['GB']:.2f}")
    report(
        "audit_time",
        "One audit with cached features, in a fresh process.",
        ("images", "s", "CPU s", "GB"),
        [row],
        record,
    )


PARTS = {"labels": labels, "copies": copies, "leaks": leaks, "time": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--cache", default="auto", help="folder of cached features")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--pairs", help="folder for pictures of pairs")
    parser.add_argument("--write", help="page whose tables are replaced")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--warm", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return timed_audit(arguments)
    for part in arguments.parts:
        PARTS[part](arguments)
        if arguments.write:
            write_page(f"audit_{part}", arguments.write)
    return None


if __name__ == "__main__":
    main()
