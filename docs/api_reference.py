"""The table of everything public, and the pages of the reference that are made from it.

A test compares the table with the `__all__` of the package and of its public modules.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Section(NamedTuple):
    """One heading of the reference.

    Attributes
    ----------
    title : str
    text : str
        What the names have in common, in reStructuredText.
    names : tuple of str
        As they follow `sktl.`, in the order in which a reader meets them.
    one_page : bool
        Whether the names stand on one page, instead of on a page each.
    """

    title: str
    text: str
    names: tuple[str, ...]
    one_page: bool = False


API_REFERENCE = (
    Section(
        "Estimators",
        "Ordinary scikit-learn estimators. Beside the methods on their pages they have those that scikit-learn gives "
        "to all of its kind: `score`, `fit_transform`, `get_feature_names_out`, `set_output`, `get_params`, "
        "`set_params` and, from scikit-learn 1.9 on, `set_callbacks`.",
        ("PretrainedImageClassifier", "PretrainedImageRegressor", "PretrainedImageEncoder"),
    ),
    Section(
        "Images",
        "From folders and files to what estimators take.",
        (
            "datasets.load_image_folder",
            "datasets.load_image_parts",
            "datasets.load_label_table",
            "datasets.list_images",
            "datasets.apply_decisions",
            "datasets.from_dataset",
            "datasets.LazyImages",
            "check_images",
            "set_pixel_limit",
            "Preprocessing",
        ),
    ),
    Section(
        "Features in files",
        "Embed images once, and train without them; see :doc:`/guide/embed_once`.",
        ("datasets.write_features", "datasets.load_features", "datasets.ImageFeatures"),
    ),
    Section(
        "Synthetic images",
        "For want of photos: they say nothing about a real task, and show how real sets go wrong.",
        ("datasets.make_cats", "datasets.make_surface_defects", "datasets.make_radiographs", "datasets.make_leaves"),
    ),
    Section(
        "Displays",
        "What was learned, what goes wrong, where a class is seen, what is alike; see :doc:`/displays`.",
        ("TrainingCurveDisplay", "PredictionsDisplay", "SaliencyDisplay", "FeatureMapDisplay"),
    ),
    Section(
        "Clean data",
        "What is wrong with images and labels; see :doc:`/guide/clean_data`.",
        ("audit_images", "ImageAudit"),
    ),
    Section(
        "Evaluation",
        "What a model can do on test images, as figures and as a page; see :doc:`/guide/evaluation_report`.",
        ("evaluation_report", "EvaluationReport"),
    ),
    Section(
        "Choosing a network",
        "Which networks there are, and which one suits some images; see :doc:`/guide/choosing_a_network`.",
        ("rank_backbones", "BackboneRanking", "RankedBackbone", "list_backbones", "BackboneInfo"),
    ),
    Section(
        "Saved models",
        "Written by the method `save` of the estimators, and shared; see :doc:`/guide/sharing`.",
        ("load", "push_to_hub", "load_from_hub", "save_to_folder"),
    ),
    Section(
        "Deployment",
        "Files that run without sktl; see :doc:`/guide/export`.",
        ("export", "ExportReport"),
    ),
    Section(
        "Exported models",
        "On machines without PyTorch; see :doc:`/guide/run_without_torch`.",
        ("runtime.OnnxClassifier", "runtime.OnnxRegressor", "runtime.OnnxEncoder", "runtime.open_model"),
    ),
    Section(
        "What is kept",
        "Features are kept by the content of the image; see :doc:`/guide/speed_and_cache`.",
        ("cache_info", "CacheInfo", "clear_cache", "set_cache_limit"),
    ),
    Section(
        "Errors and warnings",
        "Every error is a `SktlError` and, beside it, the built-in type that you would expect, such as `ValueError`.",
        (
            "exceptions.SktlError",
            "exceptions.InvalidParameterError",
            "exceptions.InvalidInputError",
            "exceptions.InvalidImageError",
            "exceptions.ImageFailure",
            "exceptions.BackboneError",
            "exceptions.UnknownBackboneError",
            "exceptions.WeightsError",
            "exceptions.WeightsNotFoundError",
            "exceptions.WeightsCorruptError",
            "exceptions.WeightsMismatchError",
            "exceptions.WeightsUnavailableError",
            "exceptions.DeviceError",
            "exceptions.DeviceMemoryError",
            "exceptions.MissingPackageError",
            "exceptions.EngineError",
            "exceptions.EngineNotInstalledError",
            "exceptions.ExportError",
            "exceptions.ModelFileError",
            "exceptions.ModelFileNotFoundError",
            "exceptions.HubRequestError",
            "exceptions.CacheError",
            "exceptions.CheckpointError",
            "exceptions.TrainingError",
            "exceptions.TypicalityError",
            "exceptions.BackboneWarning",
            "exceptions.CacheWarning",
            "exceptions.CheckpointWarning",
            "exceptions.ClusterWarning",
            "exceptions.DatasetWarning",
            "exceptions.DeviceWarning",
            "exceptions.ImageFolderWarning",
            "exceptions.InputWarning",
            "exceptions.InvalidImageWarning",
        ),
        one_page=True,
    ),
)


def write_pages(folder: Path) -> None:
    """Write the reference: an index, and the pages of sections that are one."""
    folder.mkdir(exist_ok=True)
    parts = [_heading("API reference", "="), ".. currentmodule:: sktl\n"]
    for section in API_REFERENCE:
        parts += [_heading(section.title, "-"), section.text + "\n"]
        if section.one_page:
            page = section.title.split()[0].lower()
            _write(folder / f"{page}.rst", _one_page(section))
            parts.append(f".. toctree::\n   :maxdepth: 1\n\n   {page}\n")
        else:
            parts.append(_summary(section.names))
    _write(folder / "index.rst", "\n".join(parts))


def _one_page(section: Section) -> str:
    entries = [f".. autoclass:: sktl.{name}\n   :members:\n   :show-inheritance:\n" for name in section.names]
    return "\n".join([_heading(section.title, "="), section.text + "\n", *entries])


def _summary(names: tuple[str, ...]) -> str:
    return ".. autosummary::\n   :toctree: generated\n\n" + "".join(f"   {name}\n" for name in names)


def _heading(title: str, line: str) -> str:
    return f"{title}\n{line * len(title)}\n"


def _write(path: Path, text: str) -> None:
    """Write a page unless it is there as it should be, so that Sphinx need not read it again."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
