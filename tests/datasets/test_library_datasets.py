"""Datasets of torchvision and in the form of Hugging Face become images and targets; targets cost no decoding."""

from __future__ import annotations

import copy
import re
import warnings
from collections import deque
from io import BytesIO

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import torchvision
from backbones import Pixels
from PIL import Image as PILImage
from sklearn.model_selection import cross_val_score
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset, random_split
from torchvision import transforms

from sktl import PretrainedImageClassifier, PretrainedImageEncoder
from sktl.datasets import from_dataset
from sktl.exceptions import DatasetWarning, InvalidInputError, InvalidParameterError

RNG = np.random.default_rng(1)
ARRAYS = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
CODES = [0, 1, 2, 1] * 3
NAMES = ["ant", "bee", "cat"]
Y = np.array(NAMES)[CODES]


def encoded(image):
    file = BytesIO()
    PILImage.fromarray(image).save(file, "PNG")
    return file.getvalue()


FILES = list(map(encoded, ARRAYS))


def features(X):
    return PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=False).fit_transform(X)


class Pairs(Dataset):
    """Pairs of an image and a target, with what else a test sets, which counts what it decodes."""

    def __init__(self, given=CODES, **attributes):
        self._given, self.n_decoded = given, 0
        vars(self).update(attributes)

    def __len__(self):
        return len(self._given)

    def __getitem__(self, i):
        self.n_decoded += 1
        return PILImage.fromarray(ARRAYS[i % len(ARRAYS)]), self._given[i]


# ----------------------------------------------------------------------------------------------------- torchvision


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(Y):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / f"{i:02}.png").write_bytes(FILES[i])
    return tmp_path


def test_an_image_folder_of_torchvision(folder):
    dataset = torchvision.datasets.ImageFolder(folder)
    X, y = from_dataset(dataset)
    assert y.tolist() == sorted(Y)
    np.testing.assert_array_equal(features(X), features([image for image, _ in dataset]))
    clf = PretrainedImageClassifier(backbone=Pixels, engine="torch", max_epochs=1, random_state=0)
    assert len(cross_val_score(clf, X, y, cv=2)) == 2


@pytest.mark.parametrize("attribute", ["targets", "labels", "_labels", "samples", "imgs", "_samples"])
@pytest.mark.parametrize("make", [list, np.array, torch.tensor], ids=["list", "array", "tensor"])
def test_stored_targets_cost_no_decoding(attribute, make):
    stored = make(CODES)
    if attribute in ("samples", "imgs", "_samples"):
        stored = [(f"{i}.png", code) for i, code in enumerate(stored)]
    dataset = Pairs(classes=NAMES, **{attribute: stored})
    X, y = from_dataset(dataset)
    np.testing.assert_array_equal(y, Y)
    assert dataset.n_decoded < 10  # a few, to check that the targets are those of the images
    assert len(X) == 12


def test_subsets_and_joined_data_sets_keep_their_targets():
    dataset = Pairs(targets=CODES, classes=NAMES)
    part, rest = random_split(dataset, [5, 7], torch.Generator().manual_seed(0))
    for some, positions in (
        (part, part.indices), (Subset(rest, [3, 1]), [rest.indices[3], rest.indices[1]]),
        (ConcatDataset([part, rest]), [*part.indices, *rest.indices]), (Subset(dataset, np.array([2, 2])), [2, 2]),
    ):  # fmt: skip
        dataset.n_decoded = 0
        X, y = from_dataset(some)
        assert dataset.n_decoded < 10
        np.testing.assert_array_equal(y, Y[positions])
        np.testing.assert_array_equal(features(X), features(ARRAYS[positions]))


def named(dataset):
    """The targets of the items of a dataset, by the names that the part of each item gives its number."""
    if isinstance(dataset, Subset):
        return [named(dataset.dataset)[i] for i in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        return [name for part in dataset.datasets for name in named(part)]
    return [dataset.classes[code] for code in dataset.targets]


def test_classes_of_joined_datasets_are_matched_by_their_names():
    ants, owls = Pairs(targets=CODES, classes=NAMES), Pairs([1, 0, 1], targets=[1, 0, 1], classes=["owl", "ant"])
    part = Subset(ConcatDataset([owls, ants]), [0, 4, 1])
    for some in (ConcatDataset([ants, owls]), part, ConcatDataset([part, ants]), ConcatDataset([owls, owls])):
        _, y = from_dataset(some)
        assert y.tolist() == named(some)


def test_numbers_of_joined_datasets_that_may_stand_for_other_classes_are_refused_and_the_remedies_work():
    def parts():
        return Pairs(targets=CODES, classes=NAMES), TensorDataset(torch.from_numpy(ARRAYS[:2]), torch.tensor([1, 0]))

    ants, others = parts()
    words = r"part 0 has 'ant', 'bee', 'cat', part 1 has no names.*set classes = None on each part.*set classes, and ta"
    for some in (ConcatDataset([ants, others]), Subset(ConcatDataset([ants, others]), [0])):
        with pytest.raises(InvalidInputError, match=words):
            from_dataset(some)
    others.classes, others.targets = ["owl", "bee"], [target for _, target in others]
    assert from_dataset(ConcatDataset([ants, others]))[1].tolist() == [*Y, "bee", "owl"]
    ants, others = parts()
    ants.classes = None
    assert from_dataset(ConcatDataset([ants, others]))[1].tolist() == [*CODES, 1, 0]


@pytest.mark.parametrize("given", [["ant", "bee"], [0.5, 1.5]])
def test_targets_of_joined_datasets_that_number_no_classes_are_kept_whatever_the_names(given):
    known, unknown = Pairs(given, targets=given, classes=["ant", "bee"]), Pairs(given, classes=["bee", "owl"])
    assert from_dataset(ConcatDataset([known, Pairs(given, targets=given)]))[1].tolist() == given * 2
    with pytest.warns(DatasetWarning, match="to read their targets"):
        assert from_dataset(ConcatDataset([known, unknown]))[1].tolist() == given * 2
    with pytest.raises(InvalidInputError, match="may number their classes differently"):
        from_dataset(ConcatDataset([Pairs([0, 1], classes=["ant", "bee"]), Pairs([0, 1], classes=["bee", "owl"])]))


@pytest.mark.parametrize(
    "labels", [pd.DataFrame({"a": CODES}), dict(zip("abcdefghijkl", CODES, strict=True)), {*range(12)}]
)
def test_only_lists_are_taken_for_targets(labels):
    dataset = Pairs(targets=pd.Series(CODES, index=CODES), labels=labels, classes=NAMES)
    assert from_dataset(dataset)[1].tolist() == [*Y]
    assert dataset.n_decoded < 10


def test_an_unreadable_image_does_not_tell_which_stored_targets_are_right():
    class Damaged(Pairs):
        def __getitem__(self, i):
            if i == 4:
                raise OSError
            return super().__getitem__(i)

    wrong = [*CODES[:4], 2, 0, *CODES[6:]]
    assert from_dataset(Damaged(targets=wrong, labels=CODES, classes=NAMES))[1].tolist() == [*Y]


def test_of_stored_targets_that_differ_those_of_the_items_count(folder):
    """Items of an ImageFolder have the targets of `samples`, which users correct, also for some of the images."""
    dataset = torchvision.datasets.ImageFolder(folder)
    path, code = dataset.samples[2]
    dataset.samples[2] = (path, code + 1)
    changed = [*dataset.samples]
    for samples in (changed, changed[::-1], changed[::2]):
        dataset.samples = samples
        _, y = from_dataset(Subset(dataset, range(len(samples))))
        assert y.tolist() == [NAMES[code] for _, code in samples]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({}, "Pairs has no attribute such as 'targets'"),
        ({"targets": [*CODES[:-1], 0]}, "the targets that Pairs stores differ from the targets of its items"),
        ({"targets": [0] * 12, "labels": [1] * 12}, "the targets that Pairs stores differ"),
        ({"targets": CODES[:5]}, "Pairs has no attribute such as 'targets'"),
        ({"targets": CODES, "target_transform": abs}, "a transform of Pairs may change the targets"),
    ],
    ids=["none", "wrong", "contradictory", "short", "transformed"],
)
def test_other_targets_are_read_in_one_pass_that_is_told(attributes, reason):
    with pytest.warns(DatasetWarning, match=f"All 12 images of Pairs are decoded once to.*, because {reason}"):
        _, y = from_dataset(Pairs(classes=NAMES, **attributes))
    np.testing.assert_array_equal(y, CODES)  # not names, which need not be those of changed targets


def test_targets_changed_by_the_data_set_do_not_get_the_names_of_others():
    dataset = torchvision.datasets.FakeData(8, (3, 8, 8), 4, target_transform=lambda code: code % 2)
    dataset.classes = list("abcd")
    with pytest.warns(DatasetWarning):
        _, y = from_dataset(dataset)
    assert set(y) <= {0, 1}


@pytest.mark.parametrize("classes", [NAMES[:2], None, {"a": 1}, ["a", "a", "a"], [1, 2, 3]])
def test_names_that_do_not_fit_are_not_used_in_silence(classes):
    dataset = Pairs(targets=CODES, classes=classes)
    if classes == NAMES[:2]:
        with pytest.raises(InvalidInputError, match=r"3 images of dataset have no class, the first at position 2"):
            from_dataset(dataset)
    else:
        np.testing.assert_array_equal(from_dataset(dataset)[1], CODES)


def test_other_kinds_of_targets():
    tables = torch.tensor([[0, 1], [1, 1]] * 6)
    np.testing.assert_array_equal(from_dataset(Pairs(tables, targets=tables))[1], tables)
    numbers = np.linspace(0, 1, 12)
    np.testing.assert_array_equal(from_dataset(Pairs(numbers, targets=numbers))[1], numbers)
    assert from_dataset(Pairs(list(Y), targets=list(Y)))[1].tolist() == Y.tolist()
    synonyms = [("tench", "Tinca tinca"), ("crane",), ("crane", "machine")]
    assert from_dataset(Pairs(targets=CODES, classes=synonyms))[1][0] == "tench, Tinca tinca"
    boxes, masks, lists = [{"boxes": []}] * 12, [PILImage.new("L", (2, 2))] * 12, [[1], [1, 2]] * 6
    for targets, kind in ((boxes, "dict"), (masks, "Image"), (lists, "list")):
        with pytest.raises(InvalidInputError, match=f"targets of type {kind}, which are not classes or numbers"):
            from_dataset(Pairs(targets, targets=targets))


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["1", 2, 3] * 4, "'1' at position 0 and 2 at position 1"),
        ([2, True] * 6, "2 at position 0 and True at position 1"),
        ([["a", 1]] * 12, "'a' at position 0 and 1 at position 1"),
    ],
)
@pytest.mark.filterwarnings("ignore:All 12 images:sktl.exceptions.DatasetWarning")
def test_targets_of_several_types_are_refused_as_in_a_fit(targets, words):
    with pytest.raises(InvalidInputError, match=f"dataset has targets of several types, {words}. Convert them"):
        from_dataset(Pairs(targets, targets=targets))


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        (transforms.RandomHorizontalFlip(), "RandomHorizontalFlip"),
        (transforms.Compose([transforms.Resize(8), transforms.Compose([transforms.ColorJitter(0.9)])]), "ColorJitter"),
        (transforms.Compose([transforms.TrivialAugmentWide(), transforms.ToTensor()]), "TrivialAugmentWide"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda dataset: dataset, lambda dataset: Subset(dataset, range(6))])
def test_random_transforms_are_told(folder, transform, name, wrap):
    dataset = torchvision.datasets.ImageFolder(folder, transform)
    with pytest.warns(DatasetWarning, match=rf"change each.*because of.*{name}.*one random version.*augmentation="):
        from_dataset(wrap(dataset))


def test_images_that_change_are_told_whatever_the_name_of_the_transform(folder):
    dataset = torchvision.datasets.ImageFolder(
        folder, lambda image: np.asarray(image) ^ RNG.integers(1, 255, dtype=np.uint8)
    )
    with pytest.warns(DatasetWarning, match="change each time they are read"):
        from_dataset(dataset)


def test_transforms_that_are_not_random_are_used_without_a_word(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X, _ = from_dataset(torchvision.datasets.ImageFolder(folder, transforms.ToTensor()))
    expected = from_dataset(torchvision.datasets.ImageFolder(folder))[0]
    np.testing.assert_array_equal(features(X), features(expected))


# ---------------------------------------------------------------------------------------------------- Hugging Face


class Image:
    """The feature of a column of images, by whose name it is recognized."""

    def __init__(self, decode=True, mode=None):
        self.decode, self.mode = decode, mode


class ClassLabel:
    def __init__(self, names):
        self.names = names


class Table:
    """A dataset with the methods of one of Hugging Face that count here."""

    def __init__(self, columns, features):
        self.columns, self.features, self.transform, self.n_decoded = columns, features, None, 0

    @property
    def column_names(self):
        return list(self.columns)

    @property
    def format(self):
        return {"type": "custom" if self.transform else None}

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key):
        if isinstance(key, str):
            return list(self.columns[key])
        row = {name: self._value(name, column[key]) for name, column in self.columns.items()}
        return self.transform(row) if self.transform else row

    def _value(self, name, value):
        feature = self.features.get(name)
        if not isinstance(feature, Image):
            return value
        if not feature.decode:
            return {"bytes": value, "path": None} if isinstance(value, bytes) else {"bytes": None, "path": value}
        self.n_decoded += 1
        return PILImage.open(BytesIO(value)).convert("RGB")

    def _with(self, **changed):
        new = copy.copy(self)
        vars(new).update(changed)
        return new

    def with_format(self, kind):
        return self._with(transform=None)

    def select_columns(self, names):
        return self._with(columns={name: self.columns[name] for name in names})

    def cast_column(self, name, feature):
        return self._with(features={**self.features, name: feature})


def table(**changed):
    columns = {"id": range(12), "image": FILES, "label": CODES}
    features = {"image": Image(), "label": ClassLabel(NAMES)}
    return Table({**columns, **changed}, features)


def test_columns_are_found_by_their_features_and_images_stay_encoded():
    dataset = table()
    X, y = from_dataset(dataset)
    np.testing.assert_array_equal(y, Y)
    assert [X[i] for i in range(12)] == FILES
    np.testing.assert_array_equal(features(X), features(FILES))
    assert dataset.n_decoded == 0
    renamed = Table({"x": FILES, "y": CODES, "fine": CODES}, {"x": Image(), "y": ClassLabel(NAMES)})
    np.testing.assert_array_equal(from_dataset(renamed)[1], Y)


def test_images_by_path_are_those_of_the_files(tmp_path):
    paths = []
    for i, content in enumerate(FILES):
        (tmp_path / f"{i}.png").write_bytes(content)
        paths.append(str(tmp_path / f"{i}.png"))
    X, _ = from_dataset(table(image=paths))
    assert X[3] == paths[3]
    np.testing.assert_array_equal(features(X), features(FILES))


def test_columns_without_features_are_found_by_name_or_named():
    bare = Table({"img": FILES, "target": list(Y), "split": ["a"] * 12}, {})
    X, y = from_dataset(bare)
    assert (X[0], y.tolist()) == (FILES[0], Y.tolist())
    np.testing.assert_array_equal(from_dataset(bare, image="img", target="split")[1], ["a"] * 12)
    both = table(labels=CODES)
    del both.features["label"]
    with pytest.raises(InvalidInputError, match=r"several columns that may be the target: 'label', 'labels'"):
        from_dataset(both)
    with pytest.raises(InvalidInputError, match=r"has the columns 'a'\. Pass the name of one as `image`"):
        from_dataset(Table({"a": [1]}, {}))
    with pytest.raises(InvalidParameterError, match="target='x' is not a column of dataset, which has 'id', 'image'"):
        from_dataset(table(), target="x")


def test_images_without_a_class_are_named():
    with pytest.raises(InvalidInputError, match=r"2 images of dataset have no class, the.*position 4 \(target -1\)"):
        from_dataset(table(label=[0, 1, 2, 0, -1, -1, 0, 0, 0, 0, 0, 0]))


def test_a_transform_of_the_data_set_is_applied_and_told_if_it_is_random():
    dataset = table()
    dataset.transform = lambda row: {"image": row["image"].rotate(90), "label": row["label"]}
    X, y = from_dataset(dataset)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(features(X), features([PILImage.fromarray(image).rotate(90) for image in ARRAYS]))
    dataset.transform = lambda row: {"image": row["image"].rotate(int(RNG.integers(1, 360))), "label": row["label"]}
    with pytest.warns(DatasetWarning, match="The images of Table change each time"):
        from_dataset(dataset)


# -------------------------------------------------------------------------------------------------- dicts and tables


def test_items_that_are_dicts_have_columns():
    items = [{"id": i, "img": image, "label": name} for i, (image, name) in enumerate(zip(ARRAYS, Y, strict=True))]
    with pytest.warns(DatasetWarning, match="because the items of deque are dicts"):
        X, y = from_dataset(deque(items))
    np.testing.assert_array_equal([*X], ARRAYS)
    assert y.tolist() == Y.tolist()
    with warnings.catch_warnings(action="error"):  # the items of a list are in memory
        assert from_dataset(items, image="img", target="id")[1].tolist() == [*range(12)]
        assert from_dataset(list(zip(ARRAYS, Y, strict=True)))[1].tolist() == Y.tolist()
    with pytest.raises(InvalidParameterError, match="image='x' is not a column of dataset, which has 'id', 'img', 'l"):
        from_dataset(items, image="x")


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table, pa.RecordBatch.from_pydict])
def test_a_table_is_its_columns(make):
    files = [{"bytes": content, "path": None} for content in FILES]
    X, y = from_dataset(make({"label": Y.tolist(), "image": files, "age": CODES}))
    assert (y.tolist(), [*X]) == (Y.tolist(), FILES)
    X, y = from_dataset(make({"path": ["a.png", "b.png"], "age": [3, 1]}), image="path", target="age")
    assert (y.tolist(), [*X]) == ([3, 1], ["a.png", "b.png"])
    with pytest.raises(InvalidInputError, match="missing targets, the first at position 1 and 1 in"):
        from_dataset(make({"image": ["a.png", "b.png"], "label": ["cat", None]}))
    if make is pd.DataFrame:
        for missing in (np.nan, pd.NA, ""):
            with pytest.raises(InvalidInputError, match="missing targets, the first at position 1 and 1 in"):
                from_dataset(make({"image": ["a.png", "b.png"], "label": ["cat", missing]}))
    with pytest.raises(InvalidInputError, match="dataset has the columns 'path', 'age'"):
        from_dataset(make({"path": ["a.png", "b.png"], "age": [3, 1]}))


# ----------------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("dataset", "kind", "message"),
    [
        ({"train": table(), "test": table()}, InvalidInputError, r"has the parts 'train', 'test'.*dataset\['train'\]"),
        (iter([1]), InvalidParameterError, "Pass a dataset with __len__ and __getitem__"),
        ("photos", InvalidParameterError, "dataset is a str"),
        ({}, InvalidParameterError, "dataset is a dict"),
        (DataLoader(Pairs()), InvalidParameterError, "DataLoader, which may shuffle. Pass its attribute dataset"),
        ([], InvalidInputError, "dataset is empty"),
        (
            [DataLoader(Pairs())],
            InvalidInputError,
            r"dataset\[0\] is a DataLoader; .* Pass .*, dataset\[0\]\.dataset\.$",
        ),
        ([ARRAYS[0]], InvalidInputError, r"dataset\[0\] is an ndarray; it must be a pair.*LazyImages\(dataset\)"),
        (TensorDataset(torch.zeros(2, 3, 8, 8)), InvalidInputError, r"a tuple of 1 items; .*\[dataset\[i\]\[0\] for"),
        ([(1, 2, 3)], InvalidInputError, r"dataset\[0\] is a tuple of 3 items; .* pass \[dataset\[i\]\[:2\] for i in"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_remedy(dataset, kind, message):
    with pytest.raises(kind, match=message):
        from_dataset(dataset)


def test_names_of_columns_are_refused_without_columns():
    with pytest.raises(InvalidParameterError, match="Pairs without columns"):
        from_dataset(Pairs(targets=CODES), image="image")


def test_a_data_set_that_cannot_be_read_is_named():
    class Broken(Pairs):
        def __getitem__(self, i):
            raise OSError("no such shard")

    with pytest.raises(InvalidInputError, match=re.escape("dataset[0] cannot be read: OSError: no such shard")):
        from_dataset(Broken())


def test_a_data_set_without_a_length_is_a_stream():
    class Stream(Pairs):
        def __len__(self):
            raise NotImplementedError("its length is unknown")

    with pytest.raises(InvalidParameterError, match="dataset is a Stream"):
        from_dataset(Stream())
