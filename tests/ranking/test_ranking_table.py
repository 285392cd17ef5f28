"""The table of ranked networks: its order, its text, its data frame."""

from __future__ import annotations

import math
import sys

import pytest

from sktl import BackboneRanking, RankedBackbone


def row(backbone, score=math.nan, logme=math.nan, status="ok", **values):
    return RankedBackbone(
        backbone=backbone, weights="default", mean_score=score, logme=logme, status=status,
        params={"backbone": backbone}, **values,
    )  # fmt: skip


ROWS = [
    row("absent", status="The weights are not on this machine."),
    row("worst", 0.5, 0.9, std_score=0.01, million_parameters=3.37, megabytes=13.65, n_features=1280),
    row("best", 0.9, 0.1, seconds_per_image=0.0123, image_size=(224, 160)),
    row("tied", 0.5, 1.0),
]


def test_the_order_is_by_score_then_evidence_and_what_failed_comes_last():
    ranking = BackboneRanking(ROWS, "accuracy")
    assert [(row.rank, row.backbone) for row in ranking] == [(1, "best"), (2, "tied"), (3, "worst"), (None, "absent")]
    assert len(ranking) == 4
    assert [row.backbone for row in ranking[1:3]] == ["tied", "worst"]
    assert ranking[0] in ranking


def test_a_score_that_is_not_a_number_is_the_worst():
    assert [row.backbone for row in BackboneRanking([row("odd"), ROWS[1]], "accuracy")] == ["worst", "odd"]


def test_rows_may_stand_in_a_set():
    assert (
        len({*ROWS, row("worst", 0.5, 0.9, std_score=0.01, million_parameters=3.37, megabytes=13.65, n_features=1280)})
        == 4
    )


def test_it_prints_as_a_table_with_reasons_below():
    lines = repr(BackboneRanking(ROWS, "accuracy")).splitlines()
    assert " ".join(lines[0].split()) == (
        "rank backbone weights pixels accuracy +- LogME ms/image M params MB features"
    )
    assert lines[1].split() == ["1", "best", "default", "224x160", "0.9000", "-", "0.1000", "12.3", "-", "-", "-"]
    assert lines[3].split() == ["3", "worst", "default", "-", "0.5000", "0.0100", "0.9000", "-", "3.37", "13.7", "1280"]
    assert lines[4].split()[:2] == ["-", "absent"]
    assert lines[5] == "absent (default): The weights are not on this machine."


def test_a_notebook_shows_it_as_a_table_that_no_name_breaks():
    text = BackboneRanking([row("<b>", 0.5), *ROWS], "accuracy")._repr_html_()
    assert text.count("<tr>") == 6
    assert "&lt;b&gt;" in text
    assert "not on this machine" in text


def test_its_data_frame_has_a_row_for_each_and_the_types_of_the_values():
    pandas = pytest.importorskip("pandas")
    frame = BackboneRanking(ROWS, "accuracy").to_frame()
    assert list(frame.columns) == [
        "rank", "backbone", "weights", "image_size", "n_stages", "mean_score", "std_score", "logme",
        "seconds_per_image", "million_parameters", "megabytes", "n_features", "status",
    ]  # fmt: skip
    assert frame["rank"].tolist() == [1, 2, 3, pandas.NA]
    assert frame["mean_score"].dtype == float
    assert frame["n_features"].tolist()[2] == 1280


def test_without_pandas_the_data_frame_is_an_import_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pandas"):
        BackboneRanking(ROWS, "accuracy").to_frame()
