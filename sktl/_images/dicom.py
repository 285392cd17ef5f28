"""DICOM files, read by pydicom: one frame, as a viewer shows it with the window that the file contains.

Numbers of gray frames pass through three steps of the standard (PS3.3 C.11): the modality transformation to a physical
unit, such as Hounsfield units, a window (VOI) of these units that is displayed, and inversion if small is white.
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

import numpy as np

from sktl._short_text import one_line

from .bit_depths import in_8_bits, looked_up
from .dicom_compression import check_encapsulated, check_inflated, check_segments, decoders_of
from .problems import ImageProblem, check_size

_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_DEVICE = ("Manufacturer", "ManufacturerModelName", "StationName")
_GRAY = {"MONOCHROME1", "MONOCHROME2"}
_COLORS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}
# The numbers of a CT without a window: what 12 bits hold, from air to dense bone and metal.
_CT_UNITS = (-1024.0, 3071.0)
_NARROWEST = 1e-9
_NO_WINDOW = (
    "and no window, so the values of black and white are unknown; pass image_reader, a function that reads it and "
    "applies a window that is the same for all images"
)


def read(content: bytes) -> np.ndarray:
    """Return the pixels of a DICOM file, as uint8 of shape (H, W) or (H, W, 3).

    Of several frames, the middle one is read: frame n // 2 of n, counted from 0.

    Raises
    ------
    ImageProblem
        If the file contains no image, is too large or damaged, needs a decoder that is not installed, or has numbers
        whose black and white are unknown.
    """
    dataset = _parsed(content)
    if "Rows" not in dataset or not any(name in dataset for name in _DATA):
        raise ImageProblem(f"is a .dcm file without an image{_kind(dataset)}; leave it out")
    check_size(int(dataset.Columns), int(dataset.Rows))
    frame = _n_frames(dataset) // 2
    meaning = str(dataset.PhotometricInterpretation).strip()
    if meaning not in _GRAY | _COLORS | {"PALETTE COLOR"}:
        raise ImageProblem(f"is a .dcm file with colors as {one_line(meaning, 40)}; convert it to PNG")
    pixels = _decoded(dataset, frame)
    if pixels.ndim == 3:
        return _colors(pixels, dataset)
    if meaning == "PALETTE COLOR":
        return _palette(pixels, dataset)
    return _grays(pixels, dataset, frame, inverted=meaning == "MONOCHROME1")


def device(content: bytes) -> tuple[str, ...]:
    """Return the manufacturer, the model and the station of the device that took the image; "" for what is unknown."""
    import pydicom

    dataset = pydicom.dcmread(BytesIO(content), force=True, stop_before_pixels=True, specific_tags=[*_DEVICE])
    # As bytes, because pydicom warns when it turns unusual bytes to text.
    values = [dataset.get_item(name).value if name in dataset else b"" for name in _DEVICE]
    return tuple(_text(value or b"").strip() for value in values)


def _text(value: bytes) -> str:
    """Return text in UTF-8 or, as most files have it, in Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


# ----------------------------------------------------------------------------------------------------------- the file


def _parsed(content: bytes) -> Any:
    import pydicom

    check_inflated(content)
    dataset = pydicom.dcmread(BytesIO(content), force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):  # the dataset alone, without the header of a file
        is_implicit, is_little = dataset.original_encoding
        endian = pydicom.uid.ExplicitVRLittleEndian if is_little else pydicom.uid.ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if is_implicit else endian
    return dataset


def _kind(dataset: Any) -> str:
    """Return what a file without an image contains, in parentheses, if it says so."""
    uid = dataset.get("SOPClassUID") or getattr(dataset, "file_meta", {}).get("MediaStorageSOPClassUID")
    name = getattr(uid, "name", "")
    return f" ({one_line(name, 60)})" if name and name != uid else ""


def _n_frames(dataset: Any) -> int:
    given = dataset.get("NumberOfFrames")
    return max(1, int(given)) if given is not None else 1


def _decoded(dataset: Any, frame: int) -> np.ndarray:
    """Return the numbers of one frame, of shape (H, W) or (H, W, 3), colors as RGB."""
    from pydicom.pixels import pixel_array

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        check_encapsulated(dataset, frame, _n_frames(dataset))
    try:
        pixels = pixel_array(dataset, index=frame)
    except RuntimeError as error:  # from decoders
        reason = one_line(str(error).rpartition("\n")[2].strip(), 120)
        remedy = f"pip install {decoders}" if (decoders := decoders_of(syntax)) else "convert it to PNG"
        raise ImageProblem(
            f"is a .dcm file that cannot be decompressed: {reason}; if it is not damaged, {remedy}"
        ) from error
    shape = int(dataset.Rows), int(dataset.Columns)
    if pixels.shape not in (shape, (*shape, 3)):
        raise ImageProblem(f"is not a valid .dcm file: its pixels have shape {pixels.shape}, not {shape}")
    return pixels


# --------------------------------------------------------------------------------------------------------- the meaning


def _colors(pixels: np.ndarray, dataset: Any) -> np.ndarray:
    bits = int(dataset.BitsStored)
    if pixels.dtype.kind != "u" or bits > 16:
        raise ImageProblem(f"has colors of {bits} bits, whose white is unknown; convert it to uint8 or to [0, 1]")
    return in_8_bits(pixels, bits)


def _palette(pixels: np.ndarray, dataset: Any) -> np.ndarray:
    """Return the colors of numbers, from three tables."""
    n, first, bits = _descriptor(dataset.RedPaletteColorLookupTableDescriptor)
    indices = np.clip(pixels.astype(np.int32) - first, 0, n - 1)
    if "SegmentedRedPaletteColorLookupTableData" in dataset:
        from pydicom.pixels import apply_color_lut

        for color in ("Red", "Green", "Blue", "Alpha"):
            segments = dataset.get(f"Segmented{color}PaletteColorLookupTableData", b"")
            check_segments(segments, 1 if bits < 16 else 2, _order(dataset))
        colors = apply_color_lut(indices + first, dataset)[:, :, :3]
        return in_8_bits(colors, 8 * colors.dtype.itemsize)
    channels = []
    for color in ("Red", "Green", "Blue"):
        entries, white = _entries(dataset[f"{color}PaletteColorLookupTableData"].value, n, bits, dataset)
        channels.append(looked_up(np.minimum(indices, len(entries) - 1), 0, entries / white))
    return np.stack(channels, axis=2)


def _grays(pixels: np.ndarray, dataset: Any, frame: int, inverted: bool) -> np.ndarray:
    if pixels.dtype.kind == "f" or pixels.dtype.itemsize > 2:
        grays = np.rint(_display(pixels, dataset, frame) * 255).astype(np.uint8)
    else:  # each different number once
        low, high = int(pixels.min()), int(pixels.max())
        grays = looked_up(pixels, low, _display(np.arange(low, high + 1, dtype=np.int32), dataset, frame))
    return 255 - grays if inverted else grays


def _display(values: np.ndarray, dataset: Any, frame: int) -> np.ndarray:
    """Return the grays of stored numbers: 0 up to the lower end of the window, and 1 from its upper end on."""
    with np.errstate(all="ignore"):
        grays = np.clip(_in_window(values, dataset, frame), 0, 1)
    if not np.isfinite(grays).all():
        raise ImageProblem("is not a valid .dcm file: it contains NaN, or a scale or window that is not finite")
    return grays


def _in_window(values: np.ndarray, dataset: Any, frame: int) -> np.ndarray:
    """Return stored numbers with 0 at the lower end of the window and 1 at its upper end."""
    places = _functional_groups(dataset, frame)
    if table := _sequence(dataset.get("ModalityLUTSequence")):
        units, white = _from_table(values, table, dataset)
        ends: tuple[float, float] | None = (0.0, float(white))
    else:
        slope, intercept = (_first(_found(places, name)) for name in ("RescaleSlope", "RescaleIntercept"))
        slope, intercept = (1.0, 0.0) if slope is None or intercept is None else (slope, intercept)
        units = values * slope + intercept
        ends = _ends(values, dataset, slope, intercept, is_scaled=_found(places, "RescaleIntercept") is not None)
    if table := _sequence(_found(places, "VOILUTSequence")):
        shown, white = _from_table(units, table, dataset)
        return shown / white
    center, width = (_first(_found(places, name)) for name in ("WindowCenter", "WindowWidth"))
    if center is not None and width is not None and width > 0:
        function = str(_found(places, "VOILUTFunction") or "LINEAR").strip().upper()
        # The default counts whole numbers, so that a window of width 1 has one number; floats have none.
        function = "LINEAR_EXACT" if function == "LINEAR" and values.dtype.kind == "f" else function
        return _windowed(units, center, width, function)
    if ends is None:
        raise ImageProblem(f"is a .dcm file with {_numbers(values, dataset)} {_NO_WINDOW}")
    low, high = ends
    return (units - low) / (high - low)


def _ends(
    values: np.ndarray, dataset: Any, slope: float, intercept: float, is_scaled: bool
) -> tuple[float, float] | None:
    """Return the units that are black and white in a file without a window; None if they are unknown."""
    bits = int(dataset.BitsAllocated) if values.dtype.kind == "f" else int(dataset.BitsStored)
    is_signed = bool(dataset.get("PixelRepresentation", 0))
    if dataset.get("Modality") == "CT" and is_scaled:
        return _CT_UNITS
    if values.dtype.kind == "f" or bits > 16 or (is_signed and bits > 8) or not slope:
        return None
    least = -(2 ** (bits - 1)) if is_signed else 0
    low, high = sorted(end * slope + intercept for end in (least, least + 2**bits - 1))
    return low, high


def _numbers(values: np.ndarray, dataset: Any) -> str:
    if values.dtype.kind == "f":
        return "floats"
    sign = "signed " if dataset.get("PixelRepresentation", 0) else ""
    return f"{sign}{int(dataset.BitsStored)}-bit values"


def _windowed(units: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Apply a window (PS3.3 C.11.2.1.2)."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (units - center) / width, -700, 700)))
    if function == "LINEAR" and width >= 1:
        center, width = center - 0.5, max(width - 1, _NARROWEST)
    return np.clip((units - center) / width + 0.5, 0, 1)


def _from_table(values: np.ndarray, item: Any, dataset: Any) -> tuple[np.ndarray, int]:
    """Return the entries of a table for numbers, and the entry that is white."""
    n, first, bits = _descriptor(item.LUTDescriptor)
    entries, white = _entries(item.LUTData, n, bits, dataset)
    if first >= 2**15 and values.min() < 0:  # a negative number in an unsigned field, which only the units tell
        first -= 2**16
    indices = np.clip(np.rint(values) - first, 0, len(entries) - 1)
    return entries[indices.astype(np.int64)], white


def _entries(data: Any, n: int, bits: int, dataset: Any) -> tuple[np.ndarray, int]:
    """Return the entries of a table, and the entry that is white. Entries of 8 bits may be stored in 16 bits."""
    if not 8 <= bits <= 16:
        raise ImageProblem(f"is not a valid .dcm file: a table has entries of {bits} bits")
    if isinstance(data, bytes):
        bits, dtype = (8, "u1") if len(data) < 2 * n else (bits, f"{_order(dataset)}u2")
        data = np.frombuffer(data[: n * np.dtype(dtype).itemsize], dtype)
    return np.atleast_1d(np.asarray(data, np.int64))[:n], 2**bits - 1


def _order(dataset: Any) -> str:
    """Return the order of bytes, as in NumPy."""
    return "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"


def _descriptor(value: Any) -> tuple[int, int, int]:
    """Return the number of entries of a table, the number that the first one is for, and the bits of an entry."""
    n, first, bits = (int(part) for part in value)
    return n or 2**16, first, bits


def _functional_groups(dataset: Any, frame: int) -> list[Any]:
    """Return the places where the attributes of a frame may be: of the frame, of all frames, and of the file."""
    places: list[Any] = []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    groups = [per_frame[frame] if per_frame and frame < len(per_frame) else None]
    groups.append(_sequence(dataset.get("SharedFunctionalGroupsSequence")))
    for group in filter(None, groups):
        macros = (group.get(name) for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"))
        places += filter(None, map(_sequence, macros))
    return [*places, dataset]


def _sequence(value: Any) -> Any:
    """Return the first item of a sequence; None if there is none."""
    return value[0] if value else None


def _found(places: list[Any], name: str) -> Any:
    return next((place[name].value for place in places if name in place and not _is_empty(place[name].value)), None)


def _is_empty(value: Any) -> bool:
    return value is None or (hasattr(value, "__len__") and len(value) == 0)


def _first(value: Any) -> float | None:
    """Return the first number of a value that may have several; None if it is missing or not finite."""
    if value is None:
        return None
    first = float(value[0] if isinstance(value, list | tuple) or hasattr(value, "append") else value)
    return first if math.isfinite(first) else None
