"""Files of features are read as they were written or refused, whatever has happened to them since."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from processes import in_child, needs_fork
from representatives import slow_except

from sktl._storage import parquet_files
from sktl._storage.parquet_files import FeatureFile, Rows, first_row, write_rows
from sktl.exceptions import InvalidInputError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet")
N = 11
FEATURES = np.random.default_rng(0).random((N, 7), np.float32)
ROWS = Rows(
    [f"{i}.png" for i in range(N)], {"label": np.array(["cat", "dog"])[np.arange(N) % 2], "age": np.arange(N)}, FEATURES
)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """Return the bytes of a file of three groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_files, "ROWS_PER_GROUP", 4)
        groups = [*ROWS.groups()]
        header = {
            "n_features": 7, "first_rows": [first_row(group.features) for group in groups], "part": [0, 1],
            "images_per_part": N, "contents": [], "invalid_images": [], "targets": ["label", "age"], "is_vector": False,
            "source": {}, "fingerprint": None,
        }  # fmt: skip
        path = tmp_path_factory.mktemp("features") / "f.parquet"
        write_rows(path, path.with_suffix(".draft"), groups, 7, ROWS.columns, header)
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, content):
    found = tmp_path / "f.parquet"
    found.write_bytes(content)
    return found


def test_rows_are_mapped_where_they_lie(path, monkeypatch):
    monkeypatch.setattr(parquet_files, "_decoded", lambda *args: pytest.fail("decoded"))
    file = FeatureFile.open(path)
    assert [len(block) for block in file.blocks] == [4, 4, 3]
    assert_array_equal(np.concatenate(file.blocks), FEATURES)
    assert_array_equal(file.names(), ROWS.names)
    for name, values in file.columns(["label", "age"]).items():
        assert_array_equal(values, ROWS.columns[name])
        assert values.dtype == ROWS.columns[name].dtype


def test_the_description_of_a_file_that_another_program_wrote_can_be_copied(path, tmp_path):
    table, other, description = pq.read_table(path), tmp_path / "other.parquet", pq.read_schema(path).metadata
    bare = table.replace_schema_metadata(None)
    pq.write_table(bare, other)
    with pytest.raises(InvalidInputError, match=r"pandas and polars do\. Copy .*read_schema\(original\)\.metadata"):
        FeatureFile.open(other)
    pq.write_table(bare.replace_schema_metadata(description), other)
    assert_array_equal(np.concatenate(FeatureFile.open(other).blocks), FEATURES)
    with pq.ParquetWriter(other, bare.schema) as writer:  # as polars, whose metadata are not the schema's
        writer.write_table(bare)
        writer.add_key_value_metadata(description)
    assert_array_equal(np.concatenate(FeatureFile.open(other).blocks), FEATURES)


def read(path):
    """Return False if a file is refused."""
    try:
        file = FeatureFile.open(path)
        assert len(file.names()) == len(file.columns(["label", "age"])["label"]) == len(file)
        assert sum(block.size for block in file.blocks) == len(file) * file.header["n_features"]
    except InvalidInputError:
        return False
    return True


def damaged(content, seed):
    """Return a file in whose footer a few bytes are others."""
    rng, data = random.Random(seed), bytearray(content)
    n_bytes = int.from_bytes(data[-8:-4], "little")
    for _ in range(rng.choice((1, 1, 2, 4))):
        data[len(data) - 8 - rng.randrange(1, n_bytes)] = rng.randrange(256)
    return data


@needs_fork
@pytest.mark.parametrize(("first", "last"), slow_except([(0, 100), (100, 5_000)], (0, 100)))
def test_a_damaged_file_is_refused_or_read(path, content, first, last):
    def read_all():
        return {read(path) for seed in range(first, last) if path.write_bytes(damaged(content, seed))}

    assert in_child(read_all) == {False, True}


@needs_fork
@pytest.mark.parametrize("column", ["image", "label", "age", "features", "element"])
@pytest.mark.parametrize("repetition", [1, 2])
def test_columns_that_are_described_wrongly_do_not_end_the_process(path, content, column, repetition):
    """Arrow ends the process for some errors of its libraries, in its threads and where it describes columns."""
    name = bytes([0x18, len(column)]) + column.encode()
    assert content.count(b"\0" + name) == 1
    path.write_bytes(content.replace(b"\0" + name, bytes([2 * repetition]) + name))  # instead of 0, required
    assert in_child(read, path) in (False, True)


def test_damage_of_names_and_labels_is_noticed(path, content):
    for name, text in ("image", b"7.png"), ("label", b"dog"):
        path.write_bytes(content.replace(text, b"8" + text[1:]))
        file = FeatureFile.open(path)
        with pytest.raises(InvalidInputError, match=r"f\.parquet' is damaged"):
            file.columns([name])
        assert len(file.columns([other := {"image": "label", "label": "image"}[name]])[other]) == N


def overwritten(path, content):
    path.write_bytes(content[: len(content) // 2])


def overwritten_with_equal_size(path, content):
    path.write_bytes(content)
    os.utime(path, (1e9, 1e9))


def replaced(path, content):
    path.with_suffix(".new").write_bytes(content)
    os.replace(path.with_suffix(".new"), path)


def removed(path, content):
    path.unlink()


@pytest.mark.parametrize("change", [overwritten, overwritten_with_equal_size, replaced, removed])
def test_names_of_a_file_that_has_changed_are_refused(change, path, content):
    file = FeatureFile.open(path)
    change(path, content)
    with pytest.raises(InvalidInputError, match=r"f\.parquet' has changed since it was loaded\. Load it again"):
        file.names()


@pytest.mark.parametrize("change", [overwritten, overwritten_with_equal_size])
def test_rows_of_a_file_that_was_overwritten_in_place_are_refused(change, path, content):
    file = FeatureFile.open(path)
    change(path, content)
    with pytest.raises(InvalidInputError, match=r"f\.parquet' has changed since it was loaded\. Load it again"):
        file.check_in_place()


@pytest.mark.skipif(os.name == "nt", reason="Windows does not replace or remove files that are mapped")
@pytest.mark.parametrize("change", [replaced, removed])
def test_rows_of_a_file_that_was_replaced_stay_readable(change, path, content):
    file = FeatureFile.open(path)
    change(path, content)
    file.check_in_place()
    assert_array_equal(np.concatenate(file.blocks), FEATURES)


def test_decoded_rows_do_not_depend_on_their_file(path, content):
    pq.write_table(pq.read_table(path), path)
    file = FeatureFile.open(path)
    overwritten(path, content)
    file.check_in_place()
    assert_array_equal(np.concatenate(file.blocks), FEATURES)


@given(position=st.integers(0, FEATURES.nbytes - 1))
def test_arrow_finds_damage_of_features_by_the_checksums(content, position):
    whole = FEATURES.tobytes()
    group = whole[position // 112 * 112 :][:112]  # of 4 rows
    damaged = bytearray(content)
    damaged[content.index(group) + position % 112] ^= 0xFF
    with pytest.raises(OSError, match="checksum"):
        pq.ParquetFile(pa.BufferReader(bytes(damaged)), page_checksum_verification=True).read(use_threads=False)


@pytest.mark.parametrize("name", ["run:1.parquet", "s3:x.parquet", "a:b/x.parquet", "bad\udce9.parquet"])
def test_names_that_arrow_would_not_open_as_files(tmp_path, content, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    Path("a:b").mkdir()
    try:
        Path(name).write_bytes(content)
    except OSError:
        pytest.skip("the file system does not allow this name")
    assert len(FeatureFile.open(Path(name)).names()) == N


def test_a_file_that_may_not_be_read_is_not_called_damaged(path, monkeypatch):
    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(parquet_files, "open", refuse, raising=False)
    with pytest.raises(PermissionError):
        FeatureFile.open(path)


@pytest.mark.parametrize("row", [0, 1, N - 1])
@pytest.mark.parametrize("name", ["label", "age"])
def test_a_missing_value_is_none_in_any_row(path, row, name):
    table = pq.read_table(path)
    values = table[name].to_pylist()
    values[row] = None
    at = table.column_names.index(name)
    pq.write_table(table.set_column(at, name, pa.array(values, table.schema.field(name).type)), path)
    found = FeatureFile.open(path).columns([name])[name]
    assert found.dtype == object
    assert found.tolist() == values


def test_images_without_names_are_refused(path):
    table = pq.read_table(path)
    names = pa.array([None, *ROWS.names[1:]], pa.string())
    pq.write_table(table.set_column(0, "image", names), path)
    with pytest.raises(InvalidInputError, match=r"f\.parquet' has images without names\. Write it again"):
        FeatureFile.open(path).names()
