"""Images at URLs: the same bytes, keys and features as local files, and every failure named within bounds."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from backbones import Pixels
from PIL import Image
from processes import in_child, needs_fork
from web_server import running_web_server

import sktl
from sktl import PretrainedImageEncoder
from sktl._features import reading_ahead
from sktl._images import image_urls
from sktl._images.decoding import ImageProblem
from sktl._images.samples import as_samples
from sktl.exceptions import InvalidImageError, MissingPackageError

fsspec = pytest.importorskip("fsspec", reason="fsspec, which reads URLs, is not installed")
pytest.importorskip("aiohttp", reason="aiohttp, with which fsspec reads the web, is not installed")
X = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)
SECRETS = "alice:open-sesame@"


def png(pixels):
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


FILES = [png(pixels) for pixels in X]


@pytest.fixture(scope="module")
def web_server():
    with running_web_server() as server:
        yield server


@pytest.fixture
def web(web_server, monkeypatch):
    """Return a server that has the files, of which each try lasts at most a moment."""
    web_server.files = {f"/{i}.png": content for i, content in enumerate(FILES)}
    web_server.faults, web_server.tags, web_server.requests = {}, {}, Counter()
    monkeypatch.setattr(image_urls, "bounds", replace(image_urls.bounds, pause=0.01, stall=20.0))
    monkeypatch.setattr(image_urls._Server, "_all", {})
    return web_server


def encoder(cache=False):
    return PretrainedImageEncoder(backbone=Pixels, engine="torch", cache=cache, n_jobs=2)


def sources(folder, web):
    """Return the files under all kinds of URLs."""
    memory = fsspec.filesystem("memory")
    for i, content in enumerate(FILES):
        memory.pipe(f"/photos/{i} a.png", content)
        (folder / f"{i} a.png").write_bytes(content)
        web.files[f"/{i} a.png".replace(" ", "%20")] = content
    with zipfile.ZipFile(folder / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i, content in enumerate(FILES):
            archive.writestr(f"in/{i}.png", content)
    memory.pipe("/photos.zip", (folder / "photos.zip").read_bytes())
    web.files["/photos.zip"] = (folder / "photos.zip").read_bytes()
    n = range(len(FILES))
    return {
        "path": [str(folder / f"{i} a.png") for i in n],
        "file": [(folder / f"{i} a.png").as_uri() for i in n],
        "memory": [f"memory://photos/{i} a.png" for i in n],
        "web": [web.url(f"/{i}.png") for i in n],
        "array": np.array([web.url(f"/{i}.png?token=x") for i in n]),
        "zip": [f"zip://in/{i}.png::{folder}/photos.zip" for i in n],
        "zip in memory": [f"zip://in/{i}.png::memory://photos.zip" for i in n],
        "zip on the web": [f"zip://in/{i}.png::{web.url('/photos.zip')}" for i in n],
        "cached": [f"simplecache::memory://photos/{i} a.png" for i in n],
    }


@pytest.mark.parametrize("first", ["path", "web"])
def test_features_from_any_source_are_those_of_local_files_and_share_their_cache(tmp_path, web, first):
    expected = encoder().fit_transform(FILES)
    everything, cache = sources(tmp_path, web), tmp_path / "cache"
    for source in (first, *everything):
        np.testing.assert_array_equal(encoder(cache).fit_transform(everything[source]), expected, err_msg=source)
    info = sktl.cache_info(cache)
    assert (info.images, info.misses) == (len(FILES), len(FILES))


def test_check_images_accepts_what_can_be_read_and_names_the_rest(web):
    urls = [web.url("/0.png", SECRETS), web.url("/none.png", SECRETS) + "?sig=opensesame", web.url("/1.png")]
    (failure,) = sktl.check_images(urls)
    assert failure.position == 1
    assert failure.name == web.url("/none.png?***", "***@")
    assert failure.reason.startswith("no such file")


# ----------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize("fault", [500, 503, 429, 408, "interrupt", "stall"])
def test_a_fault_that_passes_is_not_noticed(web, monkeypatch, fault):
    monkeypatch.setattr(image_urls, "bounds", replace(image_urls.bounds, stall=0.3 if fault == "stall" else 20))
    web.faults["/0.png"] = [fault, fault, None]
    assert image_urls.read_url(web.url("/0.png")) == FILES[0]
    assert web.requests["GET", "/0.png"] == 3


@pytest.mark.parametrize(
    ("fault", "reason", "n_tries"),
    [
        (401, r"answers 401 \(Unauthorized\); check the credentials", 1),
        (403, r"answers 403 \(Forbidden\); check the credentials, and whether a signed URL has expired", 1),
        (404, "no such file", 1),
        (410, r"answers 410 \(Gone\)", 1),
        (500, r"answers 500 \(Internal Server Error\), in 3 tries", 3),
        ("interrupt", "ended early.*, in 3 tries", 3),
        ("stall", r"no data arrived for 0\.3 s.*, in 3 tries", 3),
        ("endless", "has more than 1 MiB, the limit for URLs; download it", 1),
    ],
)
def test_a_fault_that_stays_is_named_without_secrets_and_nothing_is_cached(
    web, tmp_path, monkeypatch, fault, reason, n_tries
):
    monkeypatch.setattr(
        image_urls, "bounds", replace(image_urls.bounds, n_bytes=1 << 20, stall=0.3 if fault == "stall" else 20)
    )
    web.faults["/0.png"] = [fault]
    url = web.url("/0.png", SECRETS) + "?X-Amz-Signature=shibboleth"
    started = time.monotonic()
    with pytest.raises(InvalidImageError, match=reason) as caught:
        encoder(tmp_path / "cache").fit_transform([web.url("/1.png"), url])
    assert time.monotonic() < started + 10
    assert web.requests["GET", "/0.png"] == n_tries
    (failure,) = caught.value.failures
    assert (failure.position, failure.name) == (1, web.url("/0.png?***", "***@"))
    for secret in ("alice", "sesame", "shibboleth"):
        assert secret not in str(caught.value) + repr(caught.value.failures) + repr(caught.value.__cause__)
        assert secret not in repr(caught.value.__context__)
    # Once the fault is over, features are those of the file.
    web.faults.clear()
    np.testing.assert_array_equal(encoder(tmp_path / "cache").fit_transform([url]), encoder().fit_transform(FILES[:1]))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/0.png", "the server redirects without end"),
        ("file:///etc/passwd", "the server redirects to a URL that is not valid, or not http or https"),
        ("http://[", "the server redirects to a URL that is not valid, or not http or https"),
    ],
)
def test_a_redirect_that_leads_nowhere_is_named_and_not_tried_again(web, target, reason):
    web.faults["/0.png"] = [f"to {target}"]
    (failure,) = sktl.check_images([web.url("/0.png", SECRETS)])
    assert failure.reason == f"cannot be read: {reason}"
    web.faults["/0.png"] = ["to /1.png"]
    assert image_urls.read_url(web.url("/0.png")) == FILES[1]


def test_a_body_with_a_short_length_is_not_cached_under_the_key_of_the_file(web, tmp_path):
    """Nobody can know that bytes are missing, but the image is damaged."""
    web.faults["/0.png"] = ["short"]
    with pytest.raises(InvalidImageError, match="damaged"):
        encoder(tmp_path / "cache").fit_transform([web.url("/0.png")])
    assert sktl.cache_info(tmp_path / "cache").images == 0
    web.faults.clear()
    features = encoder(tmp_path / "cache").fit_transform([web.url("/0.png")])
    np.testing.assert_array_equal(features, encoder().fit_transform(FILES[:1]))


def test_the_features_of_a_file_that_changes_are_those_of_what_was_read(web, tmp_path, monkeypatch):
    url, old = web.url("/0.png"), image_urls.read_url

    def read_and_replace(wanted):
        content = old(wanted)
        web.files["/0.png"] = FILES[1]
        return content

    monkeypatch.setattr(image_urls, "read_url", read_and_replace)
    for i in range(2):
        features = encoder(tmp_path / "cache").fit_transform([url])
        np.testing.assert_array_equal(features, encoder().fit_transform(FILES[i : i + 1]))


def test_a_file_that_differs_from_its_stamp_is_named_and_not_cached(web, tmp_path):
    url, web.tags = web.url("/0.png"), {"/0.png": '"same"'}
    encoder(tmp_path / "cache").fit_transform([url])
    web.files["/0.png"] = FILES[1]
    other = encoder(tmp_path / "cache").set_params(image_size=16)  # whose features are not cached
    with pytest.raises(InvalidImageError, match="changed while it was being read"):
        other.fit_transform([url])
    assert sktl.cache_info(tmp_path / "cache").images == 1
    web.files["/0.png"] = FILES[0]
    other.fit_transform([url])


@pytest.mark.parametrize("cache", [True, False])
def test_each_file_is_downloaded_once(web, tmp_path, cache):
    web.tags = {path: f'"{path}"' for path in web.files}
    urls = [web.url(path) for path in web.files]
    folder = tmp_path / "cache" if cache else False
    fitted = encoder(folder).fit(urls)
    fitted.transform(urls)
    assert {web.requests["GET", path] for path in web.files} == {1}
    fitted.transform(urls)
    assert {web.requests["GET", path] for path in web.files} == {1 if cache else 2}


@pytest.mark.parametrize("tag", ['"strong"', 'W/"weak"', ""])
def test_a_file_with_a_strong_tag_is_not_downloaded_again(web, tmp_path, tag):
    web.tags = {"/0.png": tag}
    urls = [web.url("/0.png")]
    first = encoder(tmp_path / "cache").fit_transform(urls)
    before = web.requests["GET", "/0.png"]
    np.testing.assert_array_equal(encoder(tmp_path / "cache").fit_transform(urls), first)
    assert (web.requests["GET", "/0.png"] == before) == (tag == '"strong"')
    web.files["/0.png"], web.tags = FILES[1], {"/0.png": '"other"'}
    np.testing.assert_array_equal(encoder(tmp_path / "cache").fit_transform(urls), encoder().fit_transform(FILES[1:2]))


def test_a_stamp_is_settled_once_the_file_is_old():
    def settled(modified):
        return image_urls.UrlStamp("s3://b/a", 1, "tag", modified).is_settled()

    now = time.time()
    assert settled("")
    assert settled("Mon, 01 Jan 2024 00:00:00 GMT")
    assert not settled(time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now)))
    assert not settled("last week")


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone of a process is set on POSIX")
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York", "UTC"])
@pytest.mark.parametrize("modified", ["Fri, 31 Dec 9999 23:59:59 -0000", "Mon, 01 Jan 0001 00:00:00 -0000"])
def test_a_stamp_of_the_first_or_last_day_is_one_in_any_time_zone(monkeypatch, zone, modified):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert image_urls.UrlStamp("s3://b/a", 1, "tag", modified).is_settled() in (True, False)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_server_that_is_down_costs_seconds_not_hours(web, monkeypatch):
    """Every image of it would wait for three time-outs otherwise."""
    monkeypatch.setattr(image_urls, "bounds", replace(image_urls.bounds, stall=0.1, n_silent=3))
    paths = [f"/slow{i}.png" for i in range(300)]
    web.files |= dict.fromkeys(paths, FILES[0])
    web.faults |= {path: ["stall"] for path in paths}
    started = time.monotonic()
    failures = sktl.check_images([web.url(path) for path in paths])
    assert time.monotonic() < started + 15
    assert len(failures) == 300
    assert failures[-1].reason.startswith("was not tried, because its server does not answer")
    image_urls._Server.of(web.url("/0.png")).answered()
    assert image_urls.read_url(web.url("/0.png")) == FILES[0]


@needs_fork
def test_reads_register_nothing_for_forks(monkeypatch):
    """Else each fork of a long-lived process would take longer, because Python never forgets what is registered."""
    registered = []
    monkeypatch.setattr(os, "register_at_fork", lambda **calls: registered.append(calls))
    for i in range(10):
        fsspec.filesystem("memory").pipe(f"/forks/{i}.png", FILES[0])
        assert image_urls.read_url(f"memory://forks/{i}.png") == FILES[0]
        image_urls._Server.of(f"https://{i}.example/a.png").answered()
    assert registered == []


def test_nobody_listens(web):
    url = "http://127.0.0.1:1/a.png"
    with pytest.raises(ImageProblem, match=r"cannot be read: Cannot connect.*, in 3 tries"):
        image_urls.read_url(url)


@pytest.mark.parametrize("source", ["memory", "zip", "cached"])
def test_a_file_that_is_absent_is_named_at_once(source, tmp_path, web):
    url = sources(tmp_path, web)[source][0].replace("0", "none")
    with pytest.raises(ImageProblem, match="no such file"):
        image_urls.read_url(url)


def test_short_and_large_files_of_other_stores_are_named(monkeypatch):
    class Short(fsspec.implementations.memory.MemoryFileSystem):
        protocol = "shortstore"

        def _open(self, path, mode="rb", **kwargs):
            file = BytesIO(b"half")
            file.size = 8
            return file

    fsspec.register_implementation("shortstore", Short, clobber=True)
    monkeypatch.setattr(image_urls, "bounds", replace(image_urls.bounds, pause=0.0))
    with pytest.raises(ImageProblem, match="ended early, after 4 of 8 bytes, in 3 tries"):
        image_urls.read_url("shortstore://a.png")
    monkeypatch.setattr(image_urls, "bounds", replace(image_urls.bounds, n_bytes=1 << 20))
    fsspec.filesystem("memory").pipe("/large.png", bytes((1 << 20) + 1))
    with pytest.raises(ImageProblem, match="has more than 1 MiB"):
        image_urls.read_url("memory://large.png")


def test_unknown_schemes_and_missing_packages_are_named(monkeypatch):
    with pytest.raises(InvalidImageError, match=r"X\[1\].*fsspec knows no scheme nonsense://"):
        as_samples(["memory://a", "nonsense://a.png"])
    for scheme, remedy in [("https", "needs aiohttp.*pip install 'fsspec\\[http\\]'"), ("s3", "Install s3fs")]:
        image_urls.check_scheme.cache_clear()

        def missing(name):
            raise ImportError("Install s3fs to access S3")

        with monkeypatch.context() as patch:
            patch.setattr(fsspec, "get_filesystem_class", missing)
            with pytest.raises(MissingPackageError, match=remedy):
                as_samples([f"{scheme}://host/a.png"])
    image_urls.check_scheme.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        MissingPackageError, match=re.escape("needs fsspec, which is not installed: pip install 'fsspec[http]'")
    ):
        as_samples(["memory://a.png"])
    image_urls.check_scheme.cache_clear()


# ------------------------------------------------------------------------------------------- memory, threads, processes


def test_the_bytes_of_few_files_are_in_memory_at_once(monkeypatch):
    """No more than the budget allows, and one for each thread that decodes."""
    held, most, lock = Counter(), [0], threading.Lock()
    old, size = image_urls.read_url, max(map(len, FILES)) + 2

    class Content(bytes):
        def __del__(self):
            held.subtract(["files"])

    def count(url):
        content = Content(old(url).ljust(size))  # readers of PNG ignore what follows the image
        with lock:
            held["files"] += 1
            most[0] = max(most[0], held["files"])
        time.sleep(0.002)  # so that readers overlap
        return content

    monkeypatch.setattr(image_urls, "read_url", count)
    monkeypatch.setattr(reading_ahead, "_BYTES_AHEAD", 10 * size)
    monkeypatch.setattr(reading_ahead, "_FIRST_GUESS", size)
    memory = fsspec.filesystem("memory")
    for i in range(100):
        memory.pipe(f"/many/{i}.png", FILES[i % 12] + b"%d" % i)
    encoder().fit_transform([f"memory://many/{i}.png" for i in range(100)])
    assert 1 < most[0] <= 10 + 2


@pytest.mark.thorough
def test_threads_share_a_server_and_an_archive(tmp_path, web):
    everything = sources(tmp_path, web)
    expected = encoder().fit_transform(FILES)
    for source in ("web", "zip", "zip on the web"):
        with ThreadPoolExecutor(4) as pool:
            for features in pool.map(lambda urls: encoder().fit_transform(urls), [everything[source]] * 8):
                np.testing.assert_array_equal(features, expected)


def test_an_archive_that_is_replaced_is_read_anew(tmp_path):
    url = f"zip://a.png::{tmp_path}/x.zip"
    for content in FILES[:3]:
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
            archive.writestr("a.png", content)
        (tmp_path / "new.zip").replace(tmp_path / "x.zip")
        assert image_urls.read_url(url) == content


@pytest.mark.thorough
@needs_fork
def test_forked_children_read_urls_and_leave_the_parent_its_connections(tmp_path, web):
    everything = sources(tmp_path, web)
    expected = encoder().fit_transform(FILES)
    for source in ("web", "zip", "zip on the web", "memory"):
        urls = everything[source]
        encoder().fit_transform(urls)
        started = time.monotonic()
        for _ in range(2):
            np.testing.assert_array_equal(in_child(lambda urls=urls: encoder().fit_transform(urls)), expected)
            np.testing.assert_array_equal(encoder().fit_transform(urls), expected)
        # The parent would wait for a time-out if the child had closed its connections.
        assert time.monotonic() < started + image_urls.bounds.stall


def test_failed_reads_leave_nothing_in_the_cache(web, tmp_path):
    web.faults = {f"/{i}.png": [404] for i in range(12)}
    with pytest.raises(InvalidImageError):
        encoder(tmp_path / "cache").fit_transform([web.url(f"/{i}.png") for i in range(12)])
    assert sktl.cache_info(tmp_path / "cache").images == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_a_pipe_in_a_chain_is_named_without_waiting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    place = tmp_path / "pipe"
    urls = [f"zip://a.png::{place}", "zip://a.png::pipe", f"zip://a.png::file://{place}", f"tar://a.png::{place}"]
    urls += [f"simplecache::file://{place}", f"simplecache::local://{place}", f"zip://a.png::simplecache::{place}"]
    failures = sktl.check_images([*urls, f"file://{place}"])
    assert len(failures) == len(urls) + 1
    assert all("is not a regular file" in failure.reason for failure in failures)


def test_an_archive_in_an_archive_is_read_again_when_that_is_replaced(tmp_path):
    url = f"zip://a.png::zip://inner.zip::{tmp_path / 'outer.zip'}"
    for content in FILES[:2]:
        inner = BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("a.png", content)
        with zipfile.ZipFile(tmp_path / "new.zip", "w") as archive:
            archive.writestr("inner.zip", inner.getvalue())
        (tmp_path / "new.zip").replace(tmp_path / "outer.zip")
        assert image_urls.read_url(url) == content
