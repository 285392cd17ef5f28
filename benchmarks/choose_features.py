"""Choose how the output layer chooses its features and its penalty, by validation inside train/ of several datasets.

    python benchmarks/choose_features.py DATA [--seeds 3] [--write docs/defaults.md]

DATA holds one folder per dataset with train/<class>/*; test/ is never read. Random subsets of 5, 10, 20 and 50 images
per class are trained on, and the rest of train/ is predicted; of all of train/, five folds in turn. Candidates are
fixed features and penalties, and rules by which cross-validation inside the training images chooses. Except for one,
the rules may also divide the logits of up to 384 images by a temperature.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measuring import report, write_page
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl._estimators.auto_parameters import Chosen, TrainingSet, resolve_recipe
from sktl._head import penalty_selection as _choice
from sktl._head.penalty_selection import PENALTIES, Conditions, cross_validate
from sktl._head.train_head import output_values, train_head
from sktl._targets.class_targets import ClassTargets
from sktl._targets.labeled_samples import Labeled, Split
from sktl._training.training_run import Run
from sktl.datasets import load_image_folder

SETS = ("cat_breeds", "steel_defects", "potato_leaf", "magnetic_tile", "sign_digits")
SHOTS = (5, 10, 20, 50)
WITHOUT = "the default without a temperature"
# Numbers of stages among which is chosen, and the share of the loss, and of the standard error, that more must gain.
RULES = {
    "1 stage": ((1,), 0.0, 0.0),
    "2 stages": ((2,), 0.0, 0.0),
    "all stages": ((6,), 0.0, 0.0),
    "1, 2 or all, lowest loss": ((1, 2, 6), 0.0, 0.0),
    "1, 2 or all, 1/2 SE and 2 % (default)": ((1, 2, 6), 0.02, 0.5),
    WITHOUT: ((1, 2, 6), 0.02, 0.5),
    "1, 2 or all, 1 SE and 2 %": ((1, 2, 6), 0.02, 1.0),
    "1, 2 or all, 1/2 SE and 8 %": ((1, 2, 6), 0.08, 0.5),
    "1, 2 or all, 1/2 SE and 16 %": ((1, 2, 6), 0.16, 0.5),
    "1 or 2, 1/2 SE and 2 %": ((1, 2), 0.02, 0.5),
}
FIXED = "1 stage, penalty 0.03"


def chosen_by(found, name):
    """Return what a rule takes of candidates."""
    stages, least_gain, _choice._LEAST_ERRORS = RULES[name]
    kept = np.isin(found.feature_stages, stages) & ((found.temperatures == 1) | (name != WITHOUT))
    fields = ("feature_stages", "penalties", "temperatures", "losses", "scores")
    some = replace(found, **{name: getattr(found, name)[kept] for name in fields})
    best = some.best(least_gain=least_gain)
    return int(some.feature_stages[best]), float(some.penalties[best]), float(some.temperatures[best])


def scores(features, codes, train, test, layout, seed):
    """Return accuracy in percent and log loss on some rows by each rule, trained on others."""
    sizes = {n: [size for _, size in layout.groups_of(n)] for n in (1, 2, layout.n_stages)}
    targets = ClassTargets(np.unique(codes), codes[train], np.ones(len(train)))
    labeled, conditions = Labeled(features[train], targets), Conditions(1.0, 0.0, seed, 2, divides=True)
    found = cross_validate(labeled, sizes, PENALTIES[targets.loss], conditions)
    choices = {FIXED: (1, 0.03, 1.0)} | {name: chosen_by(found, name) for name in RULES}
    results = {}
    for n_stages, penalty, temperature in set(choices.values()):
        seen = np.ascontiguousarray(features[:, : layout.length(n_stages)])
        device, chosen = torch.device("cpu"), Chosen(n_stages, penalty, {}, temperature=temperature)
        recipe = resolve_recipe(PretrainedImageClassifier(), 0, TrainingSet.of(targets), seen.shape[1], device, chosen)
        net = train_head(Split(Labeled(seen[train], targets)), recipe, Run(seed), sizes[n_stages])
        logits = log_softmax(output_values(net.module_.output, seen[test]), axis=1)
        hits = logits.argmax(axis=1) == codes[test]
        results[n_stages, penalty, temperature] = 100 * hits.mean(), -logits[np.arange(len(test)), codes[test]].mean()
    return {name: results[choice] for name, choice in choices.items()}


def measure(folder, seeds):
    """Return the mean scores of each rule by number of images per class."""
    train = load_image_folder(folder / "train")
    codes = np.unique(train.target, return_inverse=True)[1]
    encoder = PretrainedImageEncoder(feature_stages="all", verbose=1).fit(train.data)
    features = encoder.transform(train.data)
    layout = encoder._fitted_extractor().layout
    found = {}
    for shots in SHOTS:
        runs = []
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            rows = [rng.permutation(np.flatnonzero(codes == c))[:shots] for c in np.unique(codes)]
            rows = np.sort(np.concatenate(rows))
            rest = np.setdiff1d(np.arange(len(codes)), rows)
            runs.append(scores(features, codes, rows, rest, layout, seed))
        found[f"{folder.name}, {shots} per class"] = runs
        print(folder.name, shots, flush=True)
    splits = StratifiedKFold(5, shuffle=True, random_state=0).split(codes, codes)
    found[folder.name] = [scores(features, codes, rows, rest, layout, 0) for rows, rest in splits]
    print(folder.name, flush=True)
    return {
        name: {rule: np.mean([run[rule] for run in runs], axis=0).tolist() for rule in runs[0]}
        for name, runs in found.items()
    }


def tell(record, arguments):
    """Show the means over the numbers of images of each dataset; all of them are in the record."""
    sets = list(dict.fromkeys(name.partition(",")[0] for name in record))
    rows = []
    for rule in [FIXED, *RULES]:
        of_sets = [np.mean([record[n][rule] for n in record if n.partition(",")[0] == name], axis=0) for name in sets]
        cells = [np.mean(of_sets, axis=0), *of_sets]
        rows.append((rule, *(f"{accuracy:.2f} / {loss:.3f}" for accuracy, loss in cells)))
    title = (
        "Accuracy in percent / log loss on images of train/ that were left out: the mean over training on 5, 10, 20, "
        f"and 50 images of each class, {arguments.seeds} draws each, and on four fifths of all, five folds."
    )
    report("choose_features", title, ("features and penalty", "mean", *sets), rows, record)
    if arguments.write:
        write_page("choose_features", arguments.write)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    record = {}
    for name in arguments.sets:
        record |= measure(arguments.data / name, arguments.seeds)
    tell(record, arguments)


if __name__ == "__main__":
    main()
