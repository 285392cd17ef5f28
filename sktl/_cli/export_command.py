"""`sktl export`: export a saved model to a file that runs without sktl."""

from __future__ import annotations

from typing import Any

import click

import sktl

from .command_messages import printable, printable_lines
from .options import FOLDER, machine, output, saved_model


@click.command(short_help="Export a model to ONNX, OpenVINO or PyTorch.")
@saved_model
@output("output", "FILE", "File to write: .onnx, .xml (OpenVINO) or .pt2; a folder that ends in / for OpenVINO.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.option("--precision", type=click.Choice(["float32", "float16", "int8"]), default="float32", show_default=True)
@click.option(
    "--calibration", type=FOLDER, metavar="FOLDER", help="Images like the images to predict; int8 needs at least 40."
)
@click.option("--max-drop", type=click.FloatRange(0), show_default="0.005", help="Maximum cost of float16 or int8.")
@click.option(
    "--verify", type=FOLDER, metavar="FOLDER", help="Images on which FILE is compared with MODEL, besides drawings."
)
@click.option("--include-references", is_flag=True, help="Let FILE also compute how typical images are.")
@machine
def export(
    model: str,
    output: str,
    force: bool,
    calibration: str | None,
    verify: str | None,
    quiet: bool,
    device: str,
    cache: Any,
    n_jobs: int | None,
    **options: Any,
) -> None:
    """Export MODEL to a file that runs without sktl, in ONNX Runtime, OpenVINO or PyTorch.

    FILE maps pixels to probabilities or numbers. It is written under a temporary name, loaded again and compared with
    MODEL before it is renamed. With --precision int8, half of the calibration images determine the ranges of numbers,
    and the others show what int8 costs; FILE is not written if int8 costs more than --max-drop. MODEL is too certain
    about images that it was trained on for them to show the cost: pass others, too, by --verify.

    \b
    sktl export cats.sktl -o cats.onnx
    sktl export cats.sktl -o cats.onnx --verify photos/test
    sktl export cats.sktl -o cats.xml --precision int8 --calibration photos/train --verify photos/test
    """
    from sktl._deployment.export_paths import Target  # imports PyTorch

    for file in Target.of(output, None).files:
        if file.exists() and not force:
            raise click.ClickException(
                f"{printable(str(file))} already exists. Pass --force to replace it, or another name."
            )
    estimator = sktl.load(model, device=device).set_params(cache=cache, n_jobs=n_jobs, verbose=int(not quiet))
    found = sktl.export(estimator, output, calibration=_images(calibration), verify=_images(verify), **options)
    click.echo(printable_lines(found.summary()))


def _images(folder: str | None) -> Any:
    return None if folder is None else sktl.datasets.list_images(folder)
