"""Bars are shown when they are asked for, and count every image of every epoch."""

import re

import pytest

from sktl import PretrainedImageClassifier
from sktl._utils.progress import training_bar
from sktl.datasets import make_cats


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, True), (2, False)])
def test_a_bar_of_training_is_shown_unless_each_epoch_prints_a_line(capsys, verbose, shown):
    with training_bar("training of stages", 30, verbose) as count:
        count(10)
        count(20)
    assert ("30/30" in capsys.readouterr().err) == shown


@pytest.mark.thorough
def test_training_of_stages_shows_its_trial_and_itself(capsys):
    cats = make_cats(50, image_size=32, random_state=0)
    clf = PretrainedImageClassifier(
        trainable_stages=1, max_epochs=2, verbose=1, image_size=32, weight_decay=0.1, random_state=0
    )
    clf.fit(cats.data, cats.target)
    err = capsys.readouterr().err
    assert len(re.findall(r"trial of augmentation: 100%", err)) == 2
    assert re.search(r"training of stages: 100%.* 100/100", err)
    assert clf.net_.count is None  # bars cannot be pickled
