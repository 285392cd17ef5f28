"""Files that nobody has looked at: each decodes, or is named before any training, and nothing else happens."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import struct
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from backbones import LoggedPixels, Pixels, small_conv_net
from numpy.testing import assert_array_equal
from PIL import Image, ImageFile, ImageOps
from processes import in_child, needs_fork
from representatives import slow_except

from sktl import Preprocessing, PretrainedImageClassifier, PretrainedImageEncoder, check_images, rank_backbones
from sktl._features import decoding_ahead
from sktl._features.checking_pass import find_failures
from sktl._images.decoding import ImageProblem, decode
from sktl._images.network_pixels import network_pixels
from sktl._images.samples import as_samples
from sktl._inspection.display_thumbnails import read_pictures
from sktl._storage.cache import open_cache
from sktl.exceptions import (
    DeviceMemoryError,
    InvalidImageError,
    InvalidImageWarning,
    InvalidInputError,
    InvalidParameterError,
)

RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (30, 40, 3), np.uint8))


def saved(image=NOISE, format_="PNG", **options):
    file = BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width, height):
    """A PNG file of a few kilobytes that unpacks to as many grey pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(width + 1)) for _ in range(min(height, 100))) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


FRAMES = [NOISE, NOISE.rotate(90, expand=True)]
CMYK = NOISE.convert("CMYK")
# Contents of files, with the reason why they cannot be used, or None.
FILES = {
    "plain.png": (saved(), None),
    "really a png.jpg": (saved(), None),
    "one pixel.png": (saved(NOISE.resize((1, 1))), None),
    "one pixel wide.png": (saved(NOISE.resize((1, 60_000))), None),
    "one pixel high.jpg": (saved(NOISE.resize((60_000, 1)), "JPEG"), None),
    "animated.gif": (saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), None),
    "16 bits.png": (saved(Image.fromarray(RNG.integers(0, 65536, (9, 9)).astype(np.uint16))), None),
    "cmyk.jpg": (saved(CMYK, "JPEG"), None),
    "broken exif.jpg": (saved(NOISE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), None),
    "päßé 猫.png": (saved(), None),
    "x" * 240 + ".png": (saved(), None),
    "empty.png": (b"", "the file is empty"),
    "zeros.jpg": (bytes(1000), "is not an image in a format that Pillow reads"),
    "page.jpg": (b"\n <!DOCTYPE html><title>404</title>", "is an HTML page"),
    "half.jpg": (saved(NOISE, "JPEG")[:600], "is damaged"),
    "half.png": (saved()[:1200], "is damaged"),
    "bomb.png": (bomb(20_000, 20_000), "has 20000 x 20000 pixels, more than the limit of 89,478,485"),
    "small bomb.png": (bomb(10_000, 10_000), "has 10000 x 10000 pixels, more than the limit of 89,478,485"),
    "drawing.eps": (saved(NOISE, "EPS"), "which Pillow renders with Ghostscript"),
    "scan.dcm": (bytes(128) + b"DICM", ".dcm file"),
}
BAD = {name: reason for name, (_, reason) in FILES.items() if reason}


@pytest.fixture
def corpus(tmp_path):
    """A folder of all these files, and special ones; returns paths and reasons."""
    paths = []
    for name, (content, reason) in FILES.items():
        (tmp_path / name).write_bytes(content)
        paths.append((tmp_path / name, reason))
    deep = tmp_path.joinpath(*["d" * 200] * 4)
    deep.mkdir(parents=True)
    (deep / "deep.png").write_bytes(saved())
    paths += [(deep / "deep.png", None), (tmp_path / "missing.png", "no such file"), (tmp_path, "is a directory")]
    if os.name == "posix":
        (tmp_path / "link").symlink_to("plain.png")
        (tmp_path / "dangling").symlink_to("nowhere.png")
        (tmp_path / "loop").symlink_to("loop")
        os.mkfifo(tmp_path / "pipe.png")
        paths += [
            (tmp_path / "link", None), (tmp_path / "dangling", "no such file"), (tmp_path / "loop", "cannot be read"),
            (tmp_path / "pipe.png", "is not a regular file"), ("/dev/zero", "is not a regular file"),
        ]  # fmt: skip
    return [os.fspath(path) for path, _ in paths], [reason for _, reason in paths]


def classifier(**parameters):
    return PretrainedImageClassifier(**{"backbone": Pixels, "max_epochs": 3, "random_state": 0, **parameters})


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_all_that_is_wrong_is_listed_alike_by_everyone_and_nothing_else(corpus):
    X, reasons = corpus
    wrong = [position for position, reason in enumerate(reasons) if reason]
    failures = check_images(X)
    assert [failure.position for failure in failures] == wrong
    for position, name, reason in failures:
        assert name == X[position]
        assert reasons[position] in reason
    y = np.arange(len(X)) % 2
    encoder = PretrainedImageEncoder(backbone=Pixels).fit(X)
    kept = np.delete(np.arange(len(X)), wrong)
    fitted = classifier().fit([X[i] for i in kept], y[kept])
    for use in (
        encoder.transform, fitted.predict, fitted.predict_proba, fitted.transform, lambda X: classifier().fit(X, y),
        lambda X: classifier(early_stopping=True).fit(X, y),
        lambda X: classifier(backbone=small_conv_net, trainable_stages=1, early_stopping=True).fit(X, y),
        lambda X: classifier(backbone=small_conv_net, trainable_stages="all", weights=None).fit(X, y),
        lambda X: classifier(backbone=small_conv_net, trainable_stages=1, freeze_epochs=0).fit(X, y),
        lambda X: classifier(backbone=small_conv_net, trainable_stages="all", augmentation="trivial").fit(X, y),
        lambda X: classifier(backbone=small_conv_net, trainable_stages=1, augmentation=None).fit(X, y),
    ):  # fmt: skip
        with pytest.raises(InvalidImageError, match=f"{len(wrong)} images of X cannot be used") as caught:
            use(X)
        assert list(caught.value.failures) == failures
        assert "sktl.check_images(X)" in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).failures == tuple(failures)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    "parameters",
    [{}, {"class_weight": "balanced"}, {"early_stopping": True}, {"trainable_stages": 1, "backbone": small_conv_net}],
)
def test_skipping_is_fitting_on_the_rest_bit_for_bit(corpus, parameters):
    X, reasons = corpus
    y = np.where(np.arange(len(X)) % 3 == 0, "cat", "dog")
    weights = np.linspace(1, 2, len(X))
    kept = [position for position, reason in enumerate(reasons) if not reason]
    with pytest.warns(InvalidImageWarning) as caught:
        found = classifier(invalid_images="skip", **parameters).fit(X, list(y), weights)
    (warning,) = (warning for warning in caught if warning.category is InvalidImageWarning)
    assert f"{len(X) - len(kept)} of {len(X)} images of X cannot be used" in str(warning.message)
    assert warning.filename == __file__
    assert list(found.invalid_images_) == check_images(X)
    rest = [X[i] for i in kept]
    expected = classifier(**parameters).fit(rest, y[kept], weights[kept])
    assert expected.invalid_images_ == ()
    assert_array_equal(found.decision_function(rest), expected.decision_function(rest))
    with pytest.raises(InvalidImageError):
        found.predict(X)


def test_objects_without_a_legal_form_are_skipped_too():
    good = RNG.random((6, 8, 8))
    X = [*good, np.full((8, 8), np.nan), None, np.full((8, 8), 9.0)]
    y = [0, 1] * 3 + [0, 1, 0]
    for given, n_wrong in ((X, 3), (np.stack([*good, X[6], X[8]]), 2)):
        labels = y[: len(given)]
        with pytest.warns(InvalidImageWarning, match=f"{n_wrong} of {len(given)} images"):
            clf = classifier(invalid_images="skip").fit(given, labels)
        assert_array_equal(clf.decision_function(good), classifier().fit(good, y[:6]).decision_function(good))


def closed_image():
    with Image.open(BytesIO(saved())) as image:
        pass
    return image


PHOTO_OF_8 = RNG.integers(0, 256, (8, 9, 3), np.uint8)
# Objects of every kind, with whether they are images.
OBJECTS = {
    "crop without width": (NOISE.crop((40, 5, 40, 9)), False),
    "crop without height": (NOISE.crop((0, 5, 4, 5)), False),
    **{f"no pixels of mode {mode}": (Image.new(mode, (0, 5)), False) for mode in ("1", "P", "F", "I;16", "RGBA")},
    "closed": (closed_image(), False),
    "NaN": (Image.fromarray(np.full((5, 5), np.nan, np.float32)), False),
    "floats to 255": (Image.fromarray(np.full((5, 5), 255, np.float32)), False),
    "32 bits": (Image.new("I", (5, 5)), False),
    **{
        mode: (Image.new(mode, (6, 5)), True) for mode in ("1", "La", "LA", "PA", "HSV", "CMYK", "LAB", "RGBa", "I;16B")
    },
    "one pixel": (Image.new("L", (1, 1)), True),
    "one row": (Image.new("L", (1_000_000, 1)), True),
    "one row of an array": (np.zeros((1, 100_000), np.uint8), True),
    "too many pixels": (Image.new("1", (10_000, 9_000)), False),
    "two channels": (PHOTO_OF_8[..., :2], False),
    "five channels": (np.zeros((8, 8, 5)), False),
    "no rows": (np.zeros((0, 8, 3), np.uint8), False),
    "objects": (PHOTO_OF_8.astype(object), False),
    "masked": (np.ma.masked_greater(PHOTO_OF_8, 9), False),
    "structured": (np.zeros((5, 5), "u1,u1"), False),
    "reversed": (PHOTO_OF_8[::-1, ::-1], True),
    "empty bytes": (b"", False),
    "missing": (None, False),
    "path that is none": ("a\0b", False),
}


# One of each kind of object, and of each reason to refuse one.
ALWAYS = [
    "closed", "NaN", "LAB", "one row", "too many pixels", "two channels", "no rows", "objects", "masked", "reversed",
    "empty bytes", "missing", "path that is none",
]  # fmt: skip


@pytest.mark.parametrize("name", slow_except(OBJECTS, *ALWAYS))
def test_whoever_looks_at_an_object_agrees_whether_it_is_an_image(name):
    item, is_image = OBJECTS[name]
    X, y = [NOISE, PHOTO_OF_8, item, saved(), PHOTO_OF_8[::-1]], [0, 1, 0, 1, 0]
    failures = check_images(X)
    assert [failure.position for failure in failures] == [2] * (not is_image)
    fitted = classifier().fit(X[:2], y[:2])
    encoder = PretrainedImageEncoder(backbone=Pixels).fit(X[:2])
    uses = (
        lambda: classifier().fit(X, y), lambda: fitted.predict(X), lambda: encoder.transform(X),
        lambda: classifier(backbone=small_conv_net, trainable_stages=1, augmentation=None).fit(X, y),
        lambda: rank_backbones(X, y, [Pixels], cv=2, random_state=0),
        lambda: read_pictures(as_samples(X), range(len(X)), 64),
    )  # fmt: skip
    for use in uses:
        if is_image:
            use()
            continue
        with pytest.raises(InvalidImageError) as raised:
            use()
        assert list(raised.value.failures) == failures
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InvalidImageWarning)
        skipping = classifier(invalid_images="skip").fit(X, y)
    assert list(skipping.invalid_images_) == failures


def test_an_augmentation_that_leaves_no_pixels_is_named():
    clf = classifier(
        backbone=small_conv_net,
        trainable_stages=1,
        augmentation=lambda image: image.crop((0, 0, 0, 5)),
        freeze_epochs=0,
    )
    with pytest.raises(InvalidParameterError, match="augmentation returned an Image that has no pixels: 0 x 5;"):
        clf.fit([NOISE, PHOTO_OF_8], [0, 1])


@pytest.mark.parametrize("invalid_images", ["raise", "skip"])
@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory error when reading image file")])
@pytest.mark.parametrize("as_pil", [False, True])
def test_a_lack_of_memory_is_no_fault_of_an_image(monkeypatch, invalid_images, error, as_pil):
    X = [saved(Image.fromarray(np.full((9, 9 + i), 50 * i, np.uint8))) for i in range(5)]
    load = ImageFile.ImageFile.load

    def load_small(image):
        if image.width == 13:
            raise error
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load_small)
    if as_pil:
        X = [Image.open(BytesIO(content)) for content in X]
    with pytest.raises(MemoryError):
        check_images(X)
    with pytest.raises(MemoryError):
        classifier(invalid_images=invalid_images, cache=False).fit(X, list("ababa"))


def test_a_lack_of_memory_in_a_function_of_the_users_is_no_fault_of_an_image():
    def augment(image):
        raise MemoryError("of the user's")

    clf = classifier(backbone=small_conv_net, trainable_stages=1, freeze_epochs=0, augmentation=augment)
    with pytest.raises(MemoryError, match="of the user's"):
        clf.fit([NOISE, PHOTO_OF_8], [0, 1])


def test_a_lack_of_memory_does_not_leave_an_image_unturned(monkeypatch):
    def transpose(image):
        raise MemoryError

    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(exif=exif)
    monkeypatch.setattr(ImageOps, "exif_transpose", transpose)
    with pytest.raises(MemoryError):
        decode(content, Preprocessing(8, (8, 8)))


@pytest.mark.parametrize("error", [MemoryError, OverflowError])
def test_a_size_that_does_not_fit_into_memory_is_named(monkeypatch, error):
    def resize(image, *args, **options):
        raise error

    monkeypatch.setattr(Image.Image, "resize", resize)
    with pytest.raises(MemoryError, match=r"resize an image to 8 x 8 pixels; pass a smaller image_size") as caught:
        network_pixels(np.full((7, 9, 3), 12, np.uint8), Preprocessing(8, (8, 8)))
    assert isinstance(caught.value, DeviceMemoryError)


def test_an_image_that_cannot_be_resized_is_found_by_the_check(monkeypatch):
    def resize(image, *args, **options):
        raise ValueError("too long")

    monkeypatch.setattr(Image.Image, "resize", resize)
    (failure,) = check_images([np.full((7, 9), 123, np.uint8)])  # not remembered from before
    assert failure.reason == "has 9 x 7 pixels, which cannot be resized: too long; crop it"


def test_a_class_of_which_nothing_is_left_is_an_error():
    X = [saved(), saved(), b"", b"", saved(), b""]
    with pytest.raises(
        InvalidImageError, match=r"would leave no image of class 'b': add good ones.*2 images"
    ) as caught:
        classifier(invalid_images="skip").fit(X, list("aabbcc"))
    assert [failure.position for failure in caught.value.failures] == [2, 3]
    with pytest.raises(InvalidInputError, match="X has 6 images but y has 5 labels"):
        classifier(invalid_images="skip").fit(X, list("aabbc"))


def test_what_is_wrong_in_a_validation_set_is_said_of_it():
    X, y = [*RNG.random((8, 8, 8))], [0, 1] * 4
    for parameters in ({}, {"trainable_stages": 1, "backbone": small_conv_net}):
        for invalid_images in ("raise", "skip"):
            clf = classifier(early_stopping=True, invalid_images=invalid_images, **parameters)
            with pytest.raises(InvalidImageError, match=r"An image of X_val cannot be used. X_val\[1\] \(bytes\)"):
                clf.fit(X, y, X_val=[X[0], b"<html>"], y_val=[0, 1])
            with pytest.raises(InvalidImageError, match=r"X_val\[0\] \(int\)"):
                clf.fit(X, y, X_val=[3, X[0]], y_val=[0, 1])


def test_good_images_are_kept_when_others_raise_and_decoded_once_when_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("SKTL_TEST_LOG", str(tmp_path / "log"))
    X = [saved(NOISE.rotate(20 * i)) for i in range(9)]
    y = np.arange(10) % 2
    clf = classifier(backbone=LoggedPixels, engine="torch", cache=tmp_path / "cache")
    with pytest.raises(InvalidImageError):
        clf.fit([*X, b""], y)
    features = clf.fit(X, y[:9]).transform(X)
    seen = (tmp_path / "log").read_text().split()
    assert [seen.count(hashlib.md5(row.tobytes()).hexdigest()) for row in features] == [1] * 9


def test_skipping_decodes_what_is_computed_once_and_nothing_that_is_cached(tmp_path, monkeypatch):
    X = [saved(NOISE.rotate(20 * i)) for i in range(9)]
    decoded = []
    decode = decoding_ahead.network_pixels
    monkeypatch.setattr(decoding_ahead, "network_pixels", lambda *args: (decoded.append(args[0]), decode(*args))[1])
    for cache in (tmp_path / "cache", False):
        for n in (1, int(cache is False)):
            del decoded[:]
            with pytest.warns(InvalidImageWarning):
                fitted = classifier(invalid_images="skip", cache=cache).fit([*X, b""], np.arange(10) % 2)
            assert sorted(decoded) == sorted([b"", *X] if n else [b""])
            assert [failure.position for failure in fitted.invalid_images_] == [9]


def test_images_are_decoded_once_for_all_checks(monkeypatch):
    X = [saved(NOISE.rotate(7 + 20 * i)) for i in range(9)]
    decoded = []
    decode = decoding_ahead.network_pixels
    monkeypatch.setattr(decoding_ahead, "network_pixels", lambda *args: (decoded.append(args[0]), decode(*args))[1])
    for _ in range(2):
        assert len(check_images([*X, b""])) == 1
    assert sorted(decoded) == sorted([b"", b"", *X])


@pytest.mark.parametrize("cache", [False, "auto"])
def test_copies_are_decoded_once_in_a_pass(cache, monkeypatch):
    """Images are read in windows, of which the first has 64."""
    decoded = []
    decode = decoding_ahead.network_pixels
    monkeypatch.setattr(decoding_ahead, "network_pixels", lambda *args: (decoded.append(args[0]), decode(*args))[1])
    samples = as_samples([saved(NOISE.rotate(3)), b"broken"] * 70, None, True)
    failures = find_failures(samples, Preprocessing(16, (16, 16)), open_cache(cache), 1, 0)
    assert [failure.position for failure in failures] == [*range(1, 140, 2)]
    assert len(decoded) == 2


def test_a_file_that_became_a_pipe_since_it_was_looked_at_is_not_waited_for(tmp_path, monkeypatch):
    if os.name != "posix":
        pytest.skip("there are no named pipes in folders")
    pipe, file = os.fspath(tmp_path / "x.png"), tmp_path / "y.png"
    os.mkfifo(pipe)
    file.write_bytes(saved())
    before, stat = os.stat(file), os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: before if path == pipe else stat(path, **options))
    (failure,) = check_images([pipe])
    assert failure.reason == "is not a regular file"


@pytest.mark.thorough
def test_pil_images_obey_the_same_limits_and_icons_are_refused(monkeypatch, tmp_path):
    large, drawing, icon = NOISE.resize((50, 50)), saved(NOISE, "EPS"), saved(NOISE.resize((64, 64)), "ICNS")
    X = [Image.open(BytesIO(saved(large))), Image.open(BytesIO(drawing)), icon, NOISE.resize((20, 20))]
    assert [failure.position for failure in check_images(X)] == [1, 2]
    monkeypatch.setenv("SKTL_MAX_PIXELS", "1000")
    failures = check_images([Image.open(BytesIO(saved(large))), *X[1:]])
    assert [failure.position for failure in failures] == [0, 1, 2]
    assert "50 x 50 pixels, more than the limit of 1,000" in failures[0].reason
    assert "Ghostscript" in failures[1].reason
    assert "container of icons" in failures[2].reason


def test_a_lower_limit_holds_for_what_was_decoded_before(monkeypatch):
    X = [saved(NOISE.resize((70, 70 + i))) for i in range(6)]
    assert check_images(X) == []
    monkeypatch.setenv("SKTL_MAX_PIXELS", str(70 * 73))
    assert [failure.position for failure in check_images(X)] == [4, 5]
    with pytest.warns(InvalidImageWarning, match="2 of 6"):
        classifier(invalid_images="skip").fit(X, [0, 1] * 3)


def test_a_file_larger_than_any_image_is_not_read(tmp_path):
    with open(tmp_path / "x.png", "wb") as file:
        file.truncate((1 << 30) + 1)
    (failure,) = check_images([tmp_path / "x.png"])
    assert "has 1.0 GiB, more than any supported image" in failure.reason


def test_one_pil_object_at_many_positions_in_many_threads_is_one_image(tmp_path):
    (tmp_path / "x.jpg").write_bytes(saved(NOISE.resize((200, 150)), "JPEG"))
    with Image.open(tmp_path / "x.jpg") as lazy:
        X = [lazy] * 50
        encoder = PretrainedImageEncoder(backbone=Pixels, cache=False, n_jobs=4).fit(X)
        with ThreadPoolExecutor(4) as pool:
            features = np.concatenate([*pool.map(lambda _: encoder.transform(X), range(4))])
        assert lazy.size == (200, 150)
    assert len(np.unique(features, axis=0)) == 1


# ------------------------------------------------------------------------------------------------------------ mutations

PHOTO = NOISE.resize((64, 48)).resize((160, 120))
SEEDS = [
    saved(PHOTO, "JPEG"),
    saved(PHOTO, "JPEG", progressive=True, exif=Image.Exif()),
    saved(CMYK, "JPEG"),
    saved(PHOTO),
    saved(PHOTO.convert("P")),
    saved(PHOTO.convert("RGBA"), "PNG", optimize=True),
    saved(Image.fromarray(RNG.integers(0, 65536, (30, 30)).astype(np.uint16))),
    saved(PHOTO, "GIF"),
    saved(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]),
    saved(PHOTO, "WEBP"),
    saved(PHOTO, "WEBP", lossless=True),
    saved(PHOTO, "TIFF"),
    saved(PHOTO, "TIFF", compression="tiff_lzw"),
    saved(PHOTO, "TIFF", compression="jpeg"),
    saved(PHOTO, "BMP"),
    saved(PHOTO.convert("P"), "BMP"),
]
# Of images that pass the limit below, whatever their format: as RGBA, at once with a copy, and what a codec needs.
LIMIT = 1_000_000
MOST_BYTES = 64 * LIMIT


def mutation(number):
    """A valid file with bytes changed, cut out, doubled or cut off; three of four keep the first bytes."""
    rng = random.Random(number)
    data = bytearray(rng.choice(SEEDS))
    first = rng.choice([0, 64, 200, 200])
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        at = rng.randrange(min(first, len(data) - 1), len(data))
        kind = rng.randrange(6)
        if kind <= 2:
            data[at] = rng.choice([0, 0xFF, 0x7F, 0x80, rng.randrange(256)])
        elif kind == 3:
            data[at : at + 4] = rng.randbytes(4)
        elif kind == 4:
            data[at:at] = data[at : at + rng.randrange(1, 40)]
        else:
            del data[at : at + rng.choice([1, 2, 40, len(data)])]
        if len(data) < 2:
            break
    return bytes(data)


def decode_mutations(first, last):
    """Return how many of the mutations passed their header, and how many decoded; any other end is an error."""
    import resource  # not on Windows

    os.environ["SKTL_MAX_PIXELS"] = str(LIMIT)
    warnings.simplefilter("ignore")
    preprocessing = Preprocessing(32, (24, 20))
    decode(SEEDS[0], preprocessing)
    unit = 1 if sys.platform == "darwin" else 1024
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    passed = decoded = 0
    for number in range(first, last):
        data = mutation(number)
        try:
            Image.open(BytesIO(data))
            passed += 1
        except Exception:  # whatever the header says
            pass
        started = time.monotonic()
        reason = ""
        try:
            image = decode(data, preprocessing)
        except ImageProblem as problem:
            reason = str(problem)
        else:
            decoded += 1
            assert image.mode == "RGB", number
            assert preprocessing.pixels(image).shape == (24, 20, 3), number
        assert reason or image, number
        assert time.monotonic() - started < 20, number
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before < MOST_BYTES, number
    return passed, decoded


@needs_fork
@pytest.mark.parametrize(
    ("first", "last"),
    [
        (0, 1_500),
        pytest.param(1_500, 4_000, marks=pytest.mark.thorough),
        pytest.param(4_000, 24_000, marks=pytest.mark.slow),
    ],
)
def test_a_mutated_file_decodes_or_is_named_within_bounds(first, last):
    passed, decoded = in_child(decode_mutations, first, last)
    assert passed >= (last - first) / 2
    assert 0.05 < decoded / (last - first) < 0.95


@pytest.mark.parametrize("n_jobs", [0, 1.5, True, "2"])
def test_images_are_not_checked_by_no_threads(n_jobs):
    with pytest.raises(InvalidParameterError, match=r"n_jobs=.* must be None, a number of threads, or -1"):
        check_images([np.zeros((8, 8), np.uint8)], n_jobs=n_jobs)
