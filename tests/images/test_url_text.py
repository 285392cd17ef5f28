"""Which text is a URL, which file a file URL names, and that messages never show the secrets of a URL."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sktl._images.decoding import ImageProblem
from sktl._images.url_text import is_url, local_path_of, masked, schemes_of, without_secrets

WORDS = st.text("abcdefghijkmnpqrstuvwxyzABC0123456789", min_size=12, max_size=20)


@pytest.mark.parametrize(
    "text",
    [
        "https://h/a.png",
        "S3://bucket/a.png",
        "zip://a.png::photos.zip",
        "simplecache::s3://b/a",
        "file:///a",
        "git+ssh://h/a",
    ],
)
def test_urls_are_recognized(text):
    assert is_url(text)


@pytest.mark.parametrize(
    "text",
    [
        r"c:\photos\a.png",
        "c://photos/a.png",
        r"\\server\share\a.png",
        "a.png",
        "/a/b.png",
        "a::b.png",
        "a:b",
        "",
        "data:image/png;base64,AA",
    ],
)
def test_paths_are_not_taken_for_urls(text):
    assert not is_url(text)


def test_schemes_are_those_of_all_links():
    assert schemes_of("ZIP://a.png::simplecache::https://h/x.zip") == ["zip", "simplecache", "https"]
    assert schemes_of("zip://a.png::photos") == ["zip"]


@pytest.mark.skipif(os.name == "nt", reason="file URLs of Windows hold a drive")
@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0/"), min_size=1, max_size=20))
def test_the_url_of_a_path_is_that_path(name):
    path = Path("/photos") / name
    assert local_path_of(path.as_uri()) == str(path)
    assert local_path_of(path.as_uri().replace("///", "//localhost/")) == str(path)


def test_other_machines_are_refused_and_other_schemes_are_no_paths():
    with pytest.raises(ImageProblem, match="another machine"):
        local_path_of("file://server/share/a.png")
    assert local_path_of("https://h/a.png") is None
    assert local_path_of("file:///a.zip::zip://b") is None


@given(WORDS, WORDS, WORDS, st.sampled_from(["", "/", "?", "#", "@", "%2F"]))
def test_no_secret_of_a_url_is_shown(user, password, signature, mark):
    """Also not those with characters that should have been escaped."""
    word = f"{password}{mark}{password}" if mark else password
    link = f"https://{user}:{word}@host/a.png?X-Signature={signature}&{signature}#{signature}"
    for url in (link, f"zip://a.png::{link}", f"simplecache::{link}"):
        for secret in (user, password, signature):
            assert secret not in masked(url)
            assert secret not in without_secrets(f"403, url='{url}'", url)
            assert secret not in without_secrets(f"InvalidAccessKey: {secret} is wrong", url)
        assert masked(url).endswith("***@host/a.png?***")
    assert masked(f"s3://{user}@host/a.png?{signature}") == "s3://***@host/a.png?***"


@pytest.mark.parametrize("url", ["https://host:8080/a/b.png", "s3://bucket/a@2x.png", "zip://a.png::/b/c.zip"])
def test_what_is_no_secret_is_shown(url):
    assert masked(url) == url
    assert without_secrets("Name or service not known", url) == "Name or service not known"
