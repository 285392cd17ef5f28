"""Rows are what was written, whatever program wrote them, and other files are named."""

from __future__ import annotations

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._datasets.csv_rows import rows_of_csv
from sktl.exceptions import InvalidInputError

CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(
    rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=5),
    delimiter=st.sampled_from(",;\t"),
    mark=st.sampled_from(["", "\ufeff"]),
)
def test_rows_are_what_was_written(tmp_path_factory, rows, delimiter, mark):
    rows, text = [["file", "class"], *rows], io.StringIO()
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    path = tmp_path_factory.getbasetemp() / "rows.csv"
    for line in ("", f"sep={delimiter}\r\n"):
        path.write_bytes((mark + line + text.getvalue()).encode())
        found = rows_of_csv(str(path), "table", "Pass a table.")
        assert found == [(number, row) for number, row in enumerate(rows, 1) if any(map(str.strip, row))]


@pytest.mark.parametrize(
    "content", ["\nfile;class\n1.png;a, b\n", "file;class\r1.png;a, b\r", " \r\nfile;class\r\n1.png;a, b"]
)
def test_the_delimiter_is_that_of_the_first_row_that_is_not_blank(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content.encode())
    rows = rows_of_csv(str(tmp_path / "a.csv"), "table", "Pass a table.")
    assert [row for _, row in rows] == [["file", "class"], ["1.png", "a, b"]]


def test_spaces_at_the_beginning_of_cells_are_left_out_only_if_they_may_be(tmp_path):
    (tmp_path / "a.csv").write_text('file, class\n1.png, "a, b"\n', encoding="utf-8")
    rows = rows_of_csv(str(tmp_path / "a.csv"), "table", "Pass a table.", skips_spaces=True)
    assert rows == [(1, ["file", "class"]), (2, ["1.png", "a, b"])]
    (tmp_path / "a.csv").write_text("file,class\n 1.png,a\n", encoding="utf-8")
    assert rows_of_csv(str(tmp_path / "a.csv"), "table", "Pass a table.")[1] == (2, [" 1.png", "a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"file,a\n1.png,caf\xe9\n", r'is not text in UTF-8\. Save it as CSV in UTF-8'),
        ("file,a\n1.png,b\n".encode("utf-16"), "is not text in UTF-8"),
        (b"PK\x03\x04...", r"is a workbook or an archive\. Save the decisions as CSV"),
        (b"PAR1\x15\x04...\xff", r"is a Parquet file\. Save the decisions as CSV"),
        (gzip.compress(b"file,a\n1.png,b\n", mtime=0), r"is compressed by gzip\. Save the decisions as CSV"),
        (b'file,a\n1.png,"b\n', "is not a CSV file: line 2: unexpected end of data"),
        (b'sep=;\nfile;a\n1.png;"b\n', "is not a CSV file: line 3: unexpected end of data"),
        (None, r"The decisions '.*a\.csv' cannot be read: No such file or directory\. Pass a table\."),
    ],
)  # fmt: skip
def test_what_is_no_csv_file_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        rows_of_csv(str(tmp_path / "a.csv"), "decisions", "Pass a table.")
