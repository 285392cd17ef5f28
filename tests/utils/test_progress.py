"""Bars are shown when they are asked for, and count every image of every epoch."""

import io
import re

import pytest

from sktl import PretrainedImageClassifier
from sktl._utils.progress import progress_bar, training_bar
from sktl.datasets import make_cats


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, True), (2, False)])
def test_a_bar_of_training_is_shown_unless_each_epoch_prints_a_line(capsys, verbose, shown):
    with training_bar("training of stages", 30, verbose) as count:
        count(10)
        count(20)
    assert ("30/30" in capsys.readouterr().err) == shown


class Full(io.StringIO):
    """A stream on a full disk, which takes some writes before."""

    def __init__(self, n_writes):
        super().__init__()
        self.n_writes = n_writes

    def write(self, text):
        self.n_writes -= 1
        if self.n_writes < 0:
            raise OSError(28, "No space left on device")
        return len(text)


@pytest.mark.parametrize("n_writes", [0, 1, 3])
def test_a_bar_that_cannot_be_written_ends_no_fit(monkeypatch, n_writes):
    monkeypatch.setattr("sys.stderr", Full(n_writes))
    with training_bar("training of stages", 30, 1) as count:
        for _ in range(30):
            count(1)
    with progress_bar("images", 200, 1) as progress:
        progress.update(200)
    with pytest.raises(OSError, match="of the block"), training_bar("training of stages", 30, 1):
        raise OSError("of the block")


class Terminal(io.StringIO):
    """A stream that a terminal shows."""

    def isatty(self):
        return True


class OfKernel(io.StringIO):
    """A stand-in for ipykernel's `OutStream`: no terminal, and flushed automatically at an interval in seconds."""

    flush_interval = 0.2


@pytest.mark.parametrize(("stream", "interval"), [(Terminal, 0.5), (OfKernel, 0.5), (io.StringIO, 10)])
def test_a_bar_moves_often_where_a_person_watches_it(monkeypatch, stream, interval):
    opened = []
    monkeypatch.setattr("sktl._utils.progress.automatic", lambda **options: opened.append(options) or io.StringIO())
    monkeypatch.setattr("sys.stderr", stream())
    with training_bar("training of stages", 30, 1):
        assert [options["mininterval"] for options in opened] == [interval]


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
