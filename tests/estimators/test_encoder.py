"""An encoder gives features of as many stages as it is asked for, under names that say where they are from."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from backbones import Pixels, stochastic_net
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier

import sktl
from sktl import PretrainedImageEncoder
from sktl._backbones.taps import StageLayout
from sktl._features.trunk_pass import Pass
from sktl._storage.model_file import open_model, write_model
from sktl.exceptions import (
    BackboneError,
    InvalidImageError,
    InvalidImageWarning,
    InvalidParameterError,
    ModelFileError,
)

pytestmark = pytest.mark.filterwarnings("ignore:weights=None:sktl.exceptions.BackboneWarning")
X = np.random.default_rng(0).integers(0, 256, (8, 20, 24, 3), np.uint8)
SMALL = {"backbone": "timm/test_vit", "weights": None, "image_size": 64, "random_state": 0}


def test_by_default_features_are_those_of_the_networks_own_output():
    encoder = PretrainedImageEncoder(**SMALL).fit(X)
    with torch.no_grad():
        expected = encoder.backbone_.build()(encoder.backbone_.preprocessing(Image.fromarray(X[0]))[None]).numpy()
    np.testing.assert_allclose(encoder.transform(X[:1]), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    names = encoder.get_feature_names_out()
    assert names.tolist() == [f"pretrainedimageencoder{i}" for i in range(expected.shape[1])]


@pytest.mark.parametrize("feature_stages", [1, 2, np.int64(3), 4, "all"])
def test_features_of_fewer_stages_are_the_first_ones(feature_stages):
    whole = PretrainedImageEncoder(backbone=stochastic_net, feature_stages="all").fit(X)
    encoder = PretrainedImageEncoder(backbone=stochastic_net, feature_stages=feature_stages).fit(X)
    length = (16, 56, 72, 88)[encoder.feature_stages_ - 1]
    assert encoder.feature_stages_ == (4 if feature_stages == "all" else feature_stages)
    assert_array_equal(encoder.transform(X), whole.transform(X)[:, :length])
    assert_array_equal(encoder.fit_transform(X), encoder.transform(X))
    assert_array_equal(encoder.get_feature_names_out(), whole.get_feature_names_out()[:length])


def test_names_say_which_block_features_are_from():
    encoder = PretrainedImageEncoder(backbone=stochastic_net, feature_stages=3).fit(X).set_output(transform="pandas")
    names = [f"pretrainedimageencoder{i}" for i in range(16)]
    groups = [("blocks.2_std", 16), ("blocks.1", 12), ("blocks.1_std", 12), ("blocks.0", 8), ("blocks.0_std", 8)]
    names += [f"pretrainedimageencoder_{name}_{i}" for name, size in groups for i in range(size)]
    assert encoder.get_feature_names_out().tolist() == names
    assert encoder.transform(X).columns.tolist() == names
    modules = dict(encoder.backbone_.build().named_modules())
    assert {"blocks.1", "blocks.0"} <= modules.keys()


def test_a_search_over_stages_makes_one_pass(monkeypatch, tmp_path):
    wanted, decode = [], Pass._decode
    monkeypatch.setattr(Pass, "_decode", lambda self, key: (wanted.append(key), decode(self, key))[1])
    encoder = PretrainedImageEncoder(backbone=stochastic_net, cache=tmp_path / "cache")
    search = GridSearchCV(
        make_pipeline(encoder, DecisionTreeClassifier(random_state=0)),
        {"pretrainedimageencoder__feature_stages": [1, 2, 3, "all"]}, cv=2, error_score="raise",
    )  # fmt: skip
    search.fit(X, [0, 1] * 4)
    assert len(wanted) == len(X)


@pytest.mark.parametrize("feature_stages", [0, -1, 1.5, None, "some", [1]])
def test_other_values_are_refused(feature_stages):
    with pytest.raises(InvalidParameterError, match=r"'feature_stages' parameter .* must be an int .* or .*'all'"):
        PretrainedImageEncoder(backbone=Pixels, feature_stages=feature_stages).fit(X)


def test_more_stages_than_the_network_has_is_an_error_of_fit():
    with pytest.raises(InvalidParameterError, match=r"feature_stages=99 is more than the \d+ stages of .*: stem, "):
        PretrainedImageEncoder(**SMALL, feature_stages=99).fit(X)
    with pytest.raises(InvalidParameterError, match=r"backbone='Pixels' has only its output layer's features; pass"):
        PretrainedImageEncoder(backbone=Pixels, feature_stages=2).fit(X)


def test_fit_opens_no_image():
    encoder = PretrainedImageEncoder(backbone=stochastic_net, feature_stages=2).fit(["nowhere.jpg"])
    assert encoder.feature_stages_ == 2


@pytest.mark.parametrize("usable", [[0, 2], []])
def test_images_that_cannot_be_used_are_refused_or_become_rows_of_nan(usable):
    items = [X[i] if i in usable else missing for i, missing in enumerate([None, b"no image", np.nan])]
    with pytest.raises(InvalidImageError, match="or pass invalid_images='nan'"):
        PretrainedImageEncoder(backbone=Pixels).fit([X[0]]).transform(items)
    with pytest.raises(InvalidImageError, match="or pass invalid_images='nan'"):
        PretrainedImageEncoder(backbone=Pixels).fit_transform(items)
    encoder = PretrainedImageEncoder(backbone=Pixels, invalid_images="nan").set_output(transform="pandas")
    with pytest.warns(InvalidImageWarning, match=f"^{3 - len(usable)} of 3 images of X cannot be used") as caught:
        frame = encoder.fit_transform(pd.Series(items, index=[7, 8, 9]))
    assert [warning.filename for warning in caught] == [__file__]
    assert frame.isna().all(axis=1).tolist() == [i not in usable for i in range(3)]
    expected = PretrainedImageEncoder(backbone=Pixels).fit_transform(X[:3])
    assert_array_equal(frame.dropna(), expected[usable])
    assert frame.index.tolist() == [7, 8, 9]


def test_a_column_of_missing_paths_becomes_rows_of_nan():
    encoder = PretrainedImageEncoder(backbone=Pixels, invalid_images="nan").fit([X[0]])
    for missing in (np.full(2, np.nan), pd.Series([np.nan] * 2), pd.DataFrame({"path": [np.nan] * 2})):
        with pytest.warns(InvalidImageWarning, match="^2 of 2 images of X cannot be used"):
            assert np.isnan(encoder.transform(missing)).all()


def test_a_clone_and_a_pickle_give_the_same():
    encoder = PretrainedImageEncoder(**SMALL, feature_stages=3).fit(X)
    expected = encoder.transform(X)
    assert_array_equal(pickle.loads(pickle.dumps(encoder)).transform(X), expected)
    assert_array_equal(clone(encoder).fit_transform(X), expected)


def test_a_clone_of_a_subclass_has_all_parameters_or_is_an_error():
    class Hidden(PretrainedImageEncoder):
        def __init__(self, alpha=1, **params):
            super().__init__(n_stages=3, **params)
            self.alpha = alpha

    class Listed(Hidden):
        def __init__(self, alpha=1, **params):
            PretrainedImageEncoder.__init__(self, **params)
            self.alpha = alpha

        @classmethod
        def _get_param_names(cls):
            return sorted(["alpha", *PretrainedImageEncoder._get_param_names()])

    copied = clone(Hidden(2))  # its own constructor passes n_stages
    assert (copied.alpha, copied.n_stages) == (2, 3)
    for lost in ({"backbone": "resnet50"}, {"random_state": np.random.RandomState(0)}, {"image_shape": (8, 8)}):
        with pytest.raises(InvalidParameterError, match=f"{next(iter(lost))}=.* would be lost in a copy of Hidden"):
            clone(Hidden(**lost))
        assert clone(Listed(**lost)).get_params().keys() >= lost.keys()


def test_an_encoder_pickled_before_a_parameter_existed_raises_errors_as_it_did():
    encoder = PretrainedImageEncoder(**SMALL).fit(X)
    del encoder.__dict__["invalid_images"]
    old = pickle.loads(pickle.dumps(encoder))
    assert_array_equal(old.transform(X), encoder.transform(X))
    assert clone(old).invalid_images == "raise"


# --------------------------------------------------------------------------------------------------------------- saving


def saved(encoder, **changes):
    """Return the file of an encoder, with another document."""
    file = io.BytesIO()
    encoder.save(file)
    if not changes:
        return file.getvalue()
    with open_model(file.getvalue()) as model:
        document = {name: value for name, value in (model.document | changes).items() if value is not None}
        write_model(file := io.BytesIO(), document, model.read_all())
    return file.getvalue()


@pytest.mark.parametrize("feature_stages", [1, 3, "all"])
def test_a_saved_encoder_gives_the_same_features_under_the_same_names(feature_stages):
    encoder = PretrainedImageEncoder(**SMALL, feature_stages=feature_stages).fit(X)
    loaded = sktl.load(saved(encoder))
    assert (loaded.feature_stages, loaded.feature_stages_) == (feature_stages, encoder.feature_stages_)
    assert_array_equal(loaded.transform(X), encoder.transform(X))
    assert_array_equal(loaded.get_feature_names_out(), encoder.get_feature_names_out())
    assert sktl.load(saved(loaded))._features.groups == encoder._features.groups


def test_a_file_of_a_version_without_the_parameter_gives_features_of_the_output():
    encoder = PretrainedImageEncoder(**SMALL).fit(X)
    with open_model(saved(encoder)) as model:
        parameters = {name: value for name, value in model.document["parameters"].items() if name != "feature_stages"}
    flattened = {"n_features": None, "names": None}
    loaded = sktl.load(saved(encoder, parameters=parameters, features=None, flattened=flattened))
    assert loaded.n_features_in_ == 1
    assert not parameters.keys() & {"precision", "invalid_images"}  # which earlier versions do not know
    assert (loaded.feature_stages, loaded.feature_stages_) == (1, 1)
    assert_array_equal(loaded.transform(X), encoder.transform(X))


@pytest.mark.parametrize(
    "features",
    [
        {"stages": 0, "groups": [["", 32]]}, {"stages": 2.0, "groups": [["", 32]]}, {"stages": 2, "groups": []},
        {"stages": 2, "groups": [["", -1]]}, {"stages": 2, "groups": [[3, 32]]}, {"stages": 2, "groups": [["", 31]]},
        {"stages": 2, "groups": [["", 32], ["blocks.1", 2**40]]}, {"stages": 2}, [],
    ],
)  # fmt: skip
def test_a_file_with_features_that_cannot_be_is_refused(features):
    encoder = PretrainedImageEncoder(**SMALL).fit(X)
    with pytest.raises(ModelFileError, match="damaged"):
        sktl.load(saved(encoder, features=features))


def test_a_network_with_other_blocks_than_where_the_encoder_was_fitted_is_an_error():
    encoder = PretrainedImageEncoder(**SMALL, feature_stages=2).fit(X)
    groups = [*map(list, encoder._features.groups[:-1]), ["blocks.99", encoder._features.groups[-1][1]]]
    loaded = sktl.load(saved(encoder, features={"stages": 2, "groups": groups}))
    with pytest.raises(
        BackboneError, match=r"has other blocks here than where the estimator was fitted\. Fit the estimator again"
    ):
        loaded.transform(X)


@pytest.mark.thorough
def test_the_layout_of_the_bundled_network_is_that_of_its_features():
    encoder = PretrainedImageEncoder(feature_stages="all").fit(X[:2])
    assert encoder.fit_transform(X[:2]).shape == (2, 6240)
    assert isinstance(encoder._features.groups, tuple)
    assert StageLayout(encoder._features.groups, (6240,)).groups_of(1) == encoder._features.groups
