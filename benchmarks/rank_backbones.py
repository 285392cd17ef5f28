"""Does the ranking of networks by `rank_backbones` hold on test images? Packaged networks, other sizes, a control.

    python benchmarks/rank_backbones.py DATA/cat_breeds [--networks resnet50 ...]
        [--write docs/guide/choosing_a_network.md]

Ranks on train/, then trains the output layer on all of train/ and measures it on test/.
"""

import argparse
import json
import time
import warnings

from measuring import folders, report, write_page
from scipy.stats import kendalltau

from sktl import PretrainedImageClassifier, rank_backbones
from sktl.exceptions import BackboneWarning

SMALLER, LARGER = ({"backbone": "efficientnet_lite0", "image_size": size} for size in (128, 176))
NETWORKS = ["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", SMALLER, LARGER]
CONTROL = ("efficientnet_lite0", None)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--networks", nargs="*", default=[], help="further networks, by name")
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    (train, codes), (test, test_codes) = folders(arguments.data)
    started = time.perf_counter()
    ranking = rank_backbones(train, codes, [*NETWORKS, *arguments.networks, CONTROL], random_state=0)
    seconds = time.perf_counter() - started
    print(ranking)
    warnings.simplefilter("ignore", BackboneWarning)  # of the control
    measured = [row for row in ranking if row.status == "ok"]
    tested = [
        PretrainedImageClassifier(**row.params, random_state=0).fit(train, codes).score(test, test_codes)
        for row in measured
    ]
    scores, evidences = [row.mean_score for row in measured], [row.logme for row in measured]
    agreement = [kendalltau(*pair).statistic for pair in ((scores, tested), (evidences, tested), (scores, evidences))]
    rows = [
        (
            row.rank, row.backbone, row.weights, row.image_size[0],
            f"{100 * row.mean_score:.1f} ± {100 * row.std_score:.1f}",
            f"{row.logme:.3f}", f"{100 * accuracy:.1f}", f"{1000 * row.seconds_per_image:.1f}",
            f"{row.million_parameters:.1f}", f"{row.megabytes:.1f}",
        )
        for row, accuracy in zip(measured, tested, strict=True)
    ]  # fmt: skip
    title = (
        f"Ranked on {len(train)} photos in {seconds:.0f} s; test accuracy on {len(test)} others. Kendall's rank "
        "correlation is {:.2f} between cross-validated and test accuracy, {:.2f} between LogME and test accuracy, and "
        "{:.2f} between cross-validated accuracy and LogME.".format(*agreement)
    )
    header = (
        "rank", "backbone", "weights", "pixels", "accuracy in %", "LogME", "test accuracy in %", "ms per image",
        "million parameters", "MB",
    )  # fmt: skip
    record = [json.loads(json.dumps(vars(row), default=str)) for row in ranking]
    report("rank_backbones", title, header, rows, record)
    if arguments.write:
        write_page("rank_backbones", arguments.write)


if __name__ == "__main__":
    main()
