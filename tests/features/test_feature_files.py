"""Features in files: what is selected of them, and which files do not belong together."""

from __future__ import annotations

import json
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
from backbones import Pixels
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from sktl import PretrainedImageClassifier, PretrainedImageEncoder, PretrainedImageRegressor
from sktl._features.feature_files import _COMMON
from sktl._storage.parquet_files import PROGRESS
from sktl.datasets import ImageFeatures, load_features, write_features
from sktl.exceptions import InvalidInputError, InvalidParameterError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
N, N_FEATURES = 12, 64
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 8, 8), np.uint8)
Y = np.arange(N) % 2
TINY = {"backbone": Pixels, "n_jobs": 1, "engine": "torch", "cache": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "parts"
    write_features(list(PIXELS), path, y=Y, estimator=PretrainedImageEncoder(**TINY), images_per_part=5)
    return path


@pytest.fixture(scope="module")
def features(folder):
    return load_features(folder).data


def test_the_working_folder_may_change(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    found = load_features(folder.name).data
    expected, pickled = np.asarray(found), pickle.dumps(found)
    monkeypatch.chdir("/")
    for features in (found, pickle.loads(pickled)):
        assert_array_equal(features, expected)
        assert_array_equal(features.names, list(map(str, range(N))))


# ----------------------------------------------------------------------------------------------------------- selection


def keys(n):
    """Return keys of an axis of length n, some of which are invalid."""
    positions = st.integers(-n - 1, n)
    lists = st.lists(positions, max_size=3)
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    columns = lists.map(lambda some: np.array(some, int)[:, None])
    return st.slices(n) | positions | lists | masks | columns | positions.map(np.int64)


@given(keys(N), keys(N_FEATURES), st.booleans())
@example([1, 2], [0, 1], False)
@example(*np.ix_([1, 2], [0, 1, 5]), False)
@example(None, 0, False)
@example(True, 0, False)
@example(np.False_, [0, 1], False)
def test_two_keys_select_what_they_select_of_an_array(features, rows, columns, dots):
    key, whole = (rows, ..., columns) if dots else (rows, columns), np.asarray(features)
    try:
        expected = whole[key]
    except IndexError:
        with pytest.raises(IndexError):
            features[key]
    else:
        assert_array_equal(features[key], expected)
        assert np.shape(features[key]) == np.shape(expected)


@pytest.mark.parametrize("key", [(), ..., slice(None), (...,), (slice(None), ...), ([0, 3], ...)])
def test_without_a_second_key_no_row_is_read(key, features):
    assert isinstance(features[key], ImageFeatures)
    assert_array_equal(np.asarray(features[key]), np.asarray(features)[key])


@pytest.mark.parametrize("key", [(..., 3), (..., 3, 4), (slice(2), None), (..., None), (2, 3), (slice(2), [True] * 64)])
def test_elements_are_an_arrays(key, features):
    assert_array_equal(features[key], np.asarray(features)[key])


def test_a_row_of_many_is_selected_without_a_list_of_all_positions(features):
    many, row = ImageFeatures(features._store, range(10**6)), np.asarray(features)[3]
    tracemalloc.start()
    assert_array_equal(many[3], row)
    assert_array_equal(many[np.int64(3)], row)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("n", [0, -1, 65, 1.5, True, "3", None, 10**4])
def test_a_number_of_columns_that_the_files_do_not_have_is_an_error(n, features):
    with pytest.raises(InvalidParameterError, match=r"^n="):
        features.columns(n)


def test_fewer_columns_can_become_more_again(features):
    assert_array_equal(features.columns(3).columns(64), features)
    assert_array_equal(features.columns(np.int64(3)), np.asarray(features)[:, :3])


@pytest.mark.parametrize("kind", [PretrainedImageClassifier, PretrainedImageRegressor, PretrainedImageEncoder])
def test_no_features_are_the_error_of_no_images(kind, features):
    estimator = kind(**TINY)
    nothing = features[:0]
    with pytest.raises(InvalidInputError, match="X is empty: Found array with 0 sample"):
        estimator.fit(nothing, [])
    estimator.fit(features, Y)
    methods = {"predict", "predict_proba", "decision_function", "transform", "typicality"}
    for method in [name for name in methods if hasattr(estimator, name)]:
        with pytest.raises(InvalidInputError, match="X is empty: Found array with 0 sample"):
            getattr(estimator, method)(nothing)


def test_no_features_for_validation_are_named(features):
    clf = PretrainedImageClassifier(**TINY, early_stopping=True)
    with pytest.raises(InvalidInputError, match="X_val is empty"):
        clf.fit(features, Y, X_val=features[:0], y_val=[])


def test_no_features_have_no_names(features):
    assert features[:0].names.tolist() == []


# --------------------------------------------------------------------------------------------------------------- files


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("features") / "f.parquet"
    write_features(list(PIXELS), path, y=Y, estimator=PretrainedImageEncoder(**TINY))
    return path


@given(st.lists(st.integers(0, N - 1), min_size=1))
@example([0, 2, 1])
@example([0, 1, 2])
def test_equal_digests_are_equal_rows_whoever_wrote_them(file, features, tmp_path_factory, rows):
    """Another program keeps the header of a file whose rows it selects or sorts."""
    path = tmp_path_factory.mktemp("taken") / "f.parquet"
    for options in {}, {"compression": "none", "use_dictionary": False}:  # decoded, and possibly mapped
        pq.write_table(pq.read_table(file).take(rows), path, **options)
        assert load_features(path).data.digest() == features[rows].digest()
    assert (features[rows].digest() == features[[0, 2, 1]].digest()) == (rows == [0, 2, 1])


def test_a_copy_does_not_open_another_selection_of_equal_length(file, tmp_path):
    table = pq.read_table(file)
    pq.write_table(table.take([0, 1, 2, 3]), tmp_path / "f.parquet")
    pickled = pickle.dumps(load_features(tmp_path / "f.parquet").data)
    assert_array_equal(np.asarray(pickle.loads(pickled)), np.asarray(load_features(file).data)[:4])
    pq.write_table(table.take([0, 1, 3, 2]), tmp_path / "f.parquet")
    with pytest.raises(InvalidInputError, match="has changed since it was loaded"):
        pickle.loads(pickled)


def test_rows_of_an_overwritten_file_are_refused(file, tmp_path):
    data = load_features(shutil.copy(file, tmp_path / "f.parquet")).data
    (tmp_path / "f.parquet").write_bytes(file.read_bytes()[:100])
    for read in (np.asarray, lambda data: data[3], lambda data: data[[0, 3], 1], lambda data: data[:4].digest()):
        with pytest.raises(InvalidInputError, match="has changed since it was loaded"):
            read(data)


def rewrite(part, values):
    """Change values of the header of a file, and the length of its rows with it."""
    table = pq.read_table(part)
    if n := values.get("n_features"):
        rows = pa.array([row[:n] for row in table["features"].to_pylist()], pa.list_(pa.float32()))
        table = table.set_column(table.column_names.index("features"), "features", rows)
    header = json.dumps(json.loads(table.schema.metadata[b"sktl"]) | values)
    pq.write_table(table.replace_schema_metadata({b"sktl": header}), part)


OTHERS = {"fingerprint": None, "sktl": "0", "n_features": 63, "targets": [], "is_vector": False, "images_per_part": 6}


@pytest.mark.parametrize("name", [*_COMMON])
def test_parts_of_different_runs_are_refused(name, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "parts", ignore=shutil.ignore_patterns(PROGRESS))
    part = tmp_path / "parts" / "part-00001.parquet"
    source = json.loads(pq.read_schema(part).metadata[b"sktl"])["source"]
    rewrite(part, {name: (OTHERS | {"source": source | {"digest": "0"}})[name]})
    with pytest.raises(InvalidInputError, match=f"'part-00001.*' and 'part-00000.*' differ in the {_COMMON[name]}"):
        load_features(tmp_path / "parts")


@pytest.fixture
def weeks(file, tmp_path):
    """Return a folder of two complete files, of the first five images and the others."""
    table, folder = pq.read_table(file), tmp_path / "weeks"
    folder.mkdir()
    for i, part in enumerate((table.slice(0, 5), table.slice(5))):
        pq.write_table(part, folder / f"{i}.parquet")
    return folder


def test_complete_files_in_a_folder_follow_each_other(weeks, file):
    whole, found = load_features(file), load_features(weeks)
    assert_array_equal(np.asarray(found.data), np.asarray(whole.data))
    assert_array_equal(found.data.names, whole.data.names)
    assert_array_equal(found.target, whole.target)
    assert found.data.digest() == whole.data.digest()
    assert_array_equal(np.asarray(pickle.loads(pickle.dumps(found.data))), np.asarray(whole.data))


@pytest.mark.parametrize("name", [*_COMMON])
def test_complete_files_may_differ_in_what_changes_features_by_rounding(name, weeks):
    source = json.loads(pq.read_schema(weeks / "1.parquet").metadata[b"sktl"])["source"]
    answer = np.linspace(-1, 1, N_FEATURES)
    rewrite(weeks / "0.parquet", {"source": source | {"answer": answer.tolist()}})
    rounded = {"answer": (answer * 1.001).tolist(), "backbone": "another name", "weights": "moved.pth"}
    rewrite(weeks / "1.parquet", {"source": source | rounded})
    assert len(load_features(weeks).data) == N
    rewrite(weeks / "1.parquet", {"source": source | {"answer": (answer + 0.1 * np.abs(answer).max()).tolist()}})
    with pytest.raises(InvalidInputError, match="differ in the network"):
        load_features(weeks)
    source |= {"answer": answer.tolist()}
    rewrite(weeks / "1.parquet", {"source": source})
    rewrite(weeks / "1.parquet", {name: (OTHERS | {"source": source | {"digest": "0"}})[name]})
    if name in {"fingerprint", "sktl", "images_per_part"}:
        assert len(load_features(weeks).data) == N
    else:
        with pytest.raises(InvalidInputError, match=f"of different features: .* differ in the {_COMMON[name]}"):
            load_features(weeks)


def test_labels_of_different_types_are_not_joined(weeks):
    table = pq.read_table(weeks / "1.parquet")
    pq.write_table(table.set_column(1, "label", pa.array(["cat"] * len(table))), weeks / "1.parquet")
    with pytest.raises(
        InvalidInputError, match=r"weeks' has files with texts and files with numbers in the column 'lab"
    ):
        load_features(weeks)


@pytest.mark.parametrize("overwrite", [False, True])
def test_complete_files_are_not_removed_from_a_folder_of_parts(overwrite, weeks):
    with pytest.raises(
        InvalidParameterError, match=r"holds '0\.parquet', which is not a part of these features\. Pass"
    ):
        write_features(list(PIXELS), weeks, y=Y, estimator=PretrainedImageEncoder(**TINY), overwrite=overwrite)
    assert sorted(path.name for path in weeks.iterdir()) == ["0.parquet", "1.parquet"]


@pytest.mark.parametrize("change", [{"sizes": [10**12]}, {"groups": [["", 63]]}, {"groups": [["", 63]], "sizes": [63]}])
def test_a_description_that_contradicts_the_rows_is_refused(change, folder, tmp_path):
    part = shutil.copy(folder / "part-00000.parquet", tmp_path / "f.parquet")
    header = json.loads(pq.read_schema(part).metadata[b"sktl"])
    rewrite(part, {"source": header["source"] | change, "part": [0, 1]})
    with pytest.raises(InvalidInputError, match="incomplete or invalid"):
        load_features(part)


def test_messages_about_a_forged_file_are_short(folder, tmp_path):
    part = shutil.copy(folder / "part-00000.parquet", tmp_path / "f.parquet")
    source = json.loads(pq.read_schema(part).metadata[b"sktl"])["source"]
    for name in ("backbone", "weights", "preprocessing", "precision"):
        rewrite(part, {"source": source | {name: "x" * 10**5, "digest": source["digest"]}, "part": [0, 1]})
        found = load_features(part).data
        assert len(repr(found)) < 200
        if name in ("preprocessing", "precision"):
            with pytest.raises(InvalidInputError, match="differs") as error:
                PretrainedImageClassifier(**TINY).fit(found, Y[:5])
            assert len(str(error.value)) < 2000
    with pytest.raises(InvalidParameterError, match="exists and holds features of") as error:
        write_features(list(PIXELS[:5]), part, y=Y[:5], estimator=PretrainedImageEncoder(**TINY))
    assert len(str(error.value)) < 2000


def test_a_source_that_is_damaged_is_other_content(folder, tmp_path):
    part = shutil.copy(folder / "part-00000.parquet", tmp_path / "f.parquet")
    rewrite(part, {"source": {}, "images_per_part": 5, "part": [0, 1]})
    with pytest.raises(
        InvalidParameterError, match="exists and holds features of an unknown network instead of 1 stage"
    ):
        write_features(list(PIXELS[:5]), part, y=Y[:5], estimator=PretrainedImageEncoder(**TINY))
