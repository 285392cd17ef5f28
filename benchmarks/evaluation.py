"""How often the intervals and verdicts of `evaluation_report` are right, on simulated answers of a model.

    python benchmarks/evaluation.py [--trials 2000] [--write docs/guide/evaluation_report.md]

Prints three tables: how often the 95 % interval of the accuracy contains the true accuracy, with images in groups whose
accuracies have a beta distribution, or of which a few are much worse than the others; how often probabilities that are
right are called too high or too low; and how often a threshold is said to reach an accuracy, and does not. Writes
benchmarks/results/evaluation_*.json.
"""

import argparse

import numpy as np
from measuring import note, table, write_page

from sktl._evaluation.calibration import Calibration
from sktl._evaluation.confidence_intervals import Rate
from sktl._evaluation.selective_classification import TARGETS, Coverage

# Accuracy, correlation within groups (None: 5 % of groups are right for only 20 %), number of groups, images of each.
GROUPED = (
    (0.9, 0.0, 20, 20),
    (0.9, 0.1, 20, 20),
    (0.9, 0.1, 40, 20),
    (0.9, 0.3, 5, 20),
    (0.9, 0.3, 10, 200),
    (0.95, 0.3, 10, 20),
    (0.95, 0.6, 10, 20),
    (0.98, 0.3, 20, 20),
    (0.98, 0.6, 40, 20),
    (0.9, None, 10, 20),
    (0.9, None, 20, 20),
    (0.9, None, 40, 20),
)
_BAD, _BAD_ACCURACY = 0.05, 0.2
# Lowest stated probability, difference from the true one, number of images; and the correlation and number of groups.
STATED = (
    (0.9, 0.0, 100, None),
    (0.9, 0.0, 1000, None),
    (0.5, 0.0, 300, None),
    (0.99, 0.0, 1000, None),
    (0.9, 0.0, 300, (0.25, 10)),
    (0.9, 0.0, 480, (0.5, 40)),
    (0.9, 0.05, 100, None),
    (0.9, 0.05, 300, None),
    (0.9, 0.05, 1000, None),
)
# Accuracy of a model whose probabilities say nothing, or None for one whose probabilities are right; number of images.
ANSWERED = ((None, 100), (None, 300), (None, 1000), (None, 5000), (0.8, 300), (0.89, 300), (0.89, 5000))


def rates_of_groups(rng, accuracy, correlation, n_groups):
    if correlation is None:
        others = (accuracy - _BAD * _BAD_ACCURACY) / (1 - _BAD)
        return np.where(rng.random(n_groups) < _BAD, _BAD_ACCURACY, others)
    if not correlation:
        return np.full(n_groups, accuracy)
    return rng.beta(*(share * (1 / correlation - 1) for share in (accuracy, 1 - accuracy)), n_groups)


def intervals(rng, n_trials):
    for accuracy, correlation, n_groups, size in GROUPED:
        groups, found = np.repeat(np.arange(n_groups), size), []
        for _ in range(n_trials):
            hits = rng.random(len(groups)) < rates_of_groups(rng, accuracy, correlation, n_groups)[groups]
            with_groups, without = Rate.of(hits, groups), Rate.of(hits)
            right = [rate.low <= accuracy <= rate.high for rate in (with_groups, without)]
            found.append((*right, with_groups.high - with_groups.low))
        right, alone, width = 100 * np.mean(found, axis=0)
        of_groups = "5 % bad groups" if correlation is None else f"correlation {correlation:g}"
        title = f"accuracy {100 * accuracy:g} %, {of_groups}, {n_groups} groups of {size}"
        yield title, f"{right:.0f} %", f"{width:.0f}", f"{alone:.0f} %"


def verdicts(rng, n_trials):
    for lowest, surplus, n, grouped in STATED:
        found, groups = [], None
        for _ in range(n_trials):
            stated = rng.uniform(lowest, 1, n)
            true = stated - surplus
            if grouped:
                correlation, n_groups = grouped
                groups, stated = np.arange(n) % n_groups, np.full(n, lowest)
                true = rates_of_groups(rng, lowest, correlation, n_groups)[groups]
            calibration = Calibration.of(stated, rng.random(n) < true, groups)
            found.append([calibration.differs and calibration.probability > calibration.share, calibration.differs])
        high, either = 100 * np.mean(found, axis=0)
        range_ = f"{lowest:g}" if grouped else f"{lowest:g} to 1"
        title = f"{range_}, {n} images" + (f" of {grouped[1]} groups, correlation {grouped[0]:g}" if grouped else "")
        yield title, f"{100 * surplus:g}", f"{high:.1f} %", f"{either - high:.1f} %"


def stated_and_true(rng, accuracy, n):
    if accuracy is None:
        stated = 1 / (1 + np.exp(-np.abs(rng.normal(0, 2.4, n))))
        return stated, stated
    return rng.random(n), np.full(n, accuracy)


def thresholds(rng, n_trials):
    for accuracy, n in ANSWERED:
        new, of_new = stated_and_true(rng, accuracy, 100_000)
        found = np.zeros((n_trials, len(TARGETS), 2))
        for trial in found:
            stated, true = stated_and_true(rng, accuracy, n)
            for k, target in enumerate(Coverage.of(stated, rng.random(n) < true).targets):
                if target.threshold is not None:
                    trial[k] = 1, of_new[new >= target.threshold].mean() < target.accuracy
        cells = [f"{100 * reached:.0f} %, {100 * wrong:.1f} %" for reached, wrong in found.mean(axis=0)]
        which = "calibrated" if accuracy is None else f"uninformative, accuracy {100 * accuracy:g} %"
        yield f"{which}, {n} images", *cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--write", help="page whose tables are replaced")
    arguments = parser.parse_args()
    n = arguments.trials
    targets = [f"{100 * target:g} %" for target in TARGETS]
    tables = {
        "evaluation_intervals": (
            intervals,
            f"How many of {n:,} simulated test sets have a 95 % interval that contains the true accuracy.",
            ("simulated model", "with `groups`", "mean width, percentage points", "without `groups`"),
        ),
        "evaluation_verdicts": (
            verdicts,
            f"How many of {n:,} simulated test sets have probabilities that are called too high or too low.",
            ("stated probabilities", "too high by, percentage points", "called too high", "called too low"),
        ),
        "evaluation_thresholds": (
            thresholds,
            f"In how many of {n:,} simulated test sets a threshold reaches an accuracy; then, in how many of all sets "
            "it misses this accuracy on new images.",
            ("probabilities", *targets),
        ),
    }
    for name, (simulate, title, header) in tables.items():
        rows = [*simulate(np.random.default_rng(0), n)]
        note(name, [title, "", *table(header, rows)], rows)
        if arguments.write:
            write_page(name, arguments.write)


if __name__ == "__main__":
    main()
