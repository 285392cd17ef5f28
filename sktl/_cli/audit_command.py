"""`sktl audit`: the page on which to decide what to do about problems in images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

import sktl

from .command_messages import printable
from .image_sources import ImageSource, decide, target_of
from .options import (
    FOLDER,
    NONE,
    Condition,
    OrWord,
    as_conditions,
    decisions,
    groups,
    images,
    kinds,
    machine,
    output,
    thumbnails,
    with_source,
    wording_of,
)
from .output_files import check_page

# Advice about copies that has no counterpart on the command line.
_IN_PYTHON = ", or keep both in one fold with duplicate_groups"


@click.command(short_help="Find wrong labels, copies and other problems in photos.")
@images
@kinds
@groups
@output("page", "PAGE", "HTML file to write.")
@click.option("--force", is_flag=True, help="Replace PAGE if it exists.")
@click.option(
    "--test", type=FOLDER, metavar="FOLDER|TABLE", help="Test images to compare with FOLDER; with --labels, a table."
)
@click.option(
    "--test-where", multiple=True, type=Condition(), help="Rows of test images in a table, such as split=test."
)
@click.option("--unlabeled", is_flag=True, help="The images in FOLDER have no classes.")
@decisions
@click.option("--cv", type=click.IntRange(2), default=5, show_default=True, help="Number of cross-validation folds.")
@thumbnails
@click.option(
    "--random-state",
    type=OrWord(click.INT, NONE),
    default=0,
    show_default=True,
    help="Seed; none: a new one each time.",
)
@machine
@with_source
def audit(
    source: ImageSource,
    page: str,
    force: bool,
    test: str | None,
    test_where: tuple[tuple[str, str], ...],
    unlabeled: bool,
    decisions: tuple[str, ...],
    cv: int,
    max_megabytes: float,
    quiet: bool,
    **machine: Any,
) -> None:
    """Find problems in the images of FOLDER/<class>/*.jpg, and write a page on which to decide about them.

    Finds unreadable files, copies, copies across training and test images, suspicious labels, images unlike the rest,
    rare classes, and properties of files that give the class away. On the page, choose what to keep, drop or relabel,
    and download the decisions for `sktl fit --decisions`. No image is changed. To look for more once you have decided,
    pass --decisions here as well, and to `sktl fit` the files of all audits. With --numbers, only the images are
    audited.

    \b
    sktl audit photos/train --test photos/test -o audit.html
    sktl audit new --unlabeled -o audit.html
    sktl audit --labels tiles.csv --where split=train --test-where split=test -o audit.html
    sktl fit photos/train --decisions decisions.csv -o cats.sktl
    """
    context = click.get_current_context()
    if unlabeled and source.labels is not None:
        raise click.UsageError("Pass either --unlabeled or --labels.", context)
    if test_where and source.labels is None:
        raise click.UsageError("--test-where needs a table. Pass it by --labels.", context)
    check_page(page, force)
    source = replace(source, has_labels=not unlabeled)
    test_source = source.of_test(test, as_conditions(test_where))
    found = _audited(
        source, test_source, decisions, cv, sktl.PretrainedImageClassifier(verbose=int(not quiet), **machine)
    )
    say = wording_of(context.command).say
    found.issues["suggestion"] = [_suggestion(issue, say) for issue in found.issues]
    found.to_html(page, max_megabytes=max_megabytes)
    click.echo(found.summary())
    click.echo(f"Wrote {printable(page)}. Open it in a browser to decide about the findings.")


def _suggestion(issue: Any, say: Callable[[str], str]) -> str:
    """Return the suggestion of a finding for the command line.

    Only reasons why a file cannot be used have messages of the library. Other suggestions name classes, and a class may
    be called "weights=None".
    """
    suggestion = str(issue["suggestion"])
    return say(suggestion) if issue["kind"] == "unreadable" else suggestion.replace(_IN_PYTHON, "")


def _audited(
    source: ImageSource, test_source: ImageSource | None, decisions: tuple[str, ...], cv: int, estimator: Any
) -> Any:
    photos = source.load()
    if decisions:
        click.echo(decide(photos, decisions, "train"), err=True)
    tests = None, None, None
    if test_source is not None:
        test = replace(test_source, kind=photos.kind).load()
        if decisions:
            click.echo(decide(test, decisions, "test", photos.target if photos.kind == "classes" else None), err=True)
        tests = test.data, _auditable(test), test.groups
    return sktl.audit_images(
        photos.data, _auditable(photos), groups=photos.groups, X_test=tests[0], y_test=tests[1], groups_test=tests[2],
        cv=cv, estimator=estimator, random_state=estimator.random_state,
    )  # fmt: skip


def _auditable(photos: Any) -> Any:
    """Return classes or labels, which are audited, or None for numbers and images without labels."""
    return target_of(photos) if photos.kind in ("classes", "labels") else None
