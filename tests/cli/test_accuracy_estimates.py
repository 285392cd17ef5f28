"""The estimate after a fit: figures of classes come from the predictions for all images together."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from sktl._cli.accuracy_estimates import _accuracy, _Images


class Constant(DummyClassifier):
    def fit(self, X, y, groups=None):
        return super().fit(X, y)


def accuracy(target, groups=None):
    images = _Images(np.arange(len(target)).astype(str), target, groups)
    return _accuracy(Constant(), images, images.folds("classes", 5), [])


def test_a_constant_answer_has_a_balanced_accuracy_of_one_half_if_folds_lack_a_class():
    patients = np.repeat(np.arange(10), 4)
    found = accuracy(np.where(patients < 2, "sick", "healthy"), patients)
    assert "0.800 (5-fold cross-validation, from 0.500 to 1.000); always answering healthy gives 0.800." in found
    assert found.endswith("Balanced accuracy, the mean over classes: 0.500.")


@pytest.mark.parametrize(("n", "is_imbalanced"), [(20, False), (21, True)])
def test_balanced_accuracy_is_given_if_a_class_is_more_than_twice_as_frequent_as_another(n, is_imbalanced):
    assert ("Balanced accuracy" in accuracy(np.repeat(["a", "b"], [10, n]))) == is_imbalanced
