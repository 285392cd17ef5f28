"""Missing streams are replaced for a block, and others are left alone."""

import io
import sys

import pytest

from sktl._utils.standard_streams import open_streams


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, closed()])
def test_a_missing_stream_can_be_written_within_the_block(monkeypatch, stream):
    other = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", other)
    with open_streams():
        print("nowhere")
        print("here", file=sys.stderr)
        assert not sys.stdout.isatty()
    assert sys.stdout is stream
    assert sys.stderr is other
    assert other.getvalue() == "here\n"


def test_an_error_gives_the_streams_back(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(KeyError), open_streams():
        raise KeyError
    assert sys.stdout is None
