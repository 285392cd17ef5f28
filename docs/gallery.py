"""How the examples are run: in which order, and each as if it were alone."""

from __future__ import annotations

from typing import Any

import sktl

# From the first fit to what is special; new ones come last.
ORDER = (
    "quickstart",
    "cat_breeds",
    "chest_xrays",
    "surface_defects",
    "leaf_disease",
    "choosing_a_backbone",
    "grid_search",
    "why_pretrained",
    "few_images",
    "imbalanced_classes",
    "calibration_and_rejection",
    "several_labels",
    "numbers",
    "explaining_predictions",
    "features_for_other_estimators",
    "saving_and_loading",
    "coming_from_skorch",
)


def forget_features(gallery_conf: dict[str, Any], filename: str) -> None:
    """Empty the cache, so that no example is quicker for the features of another one."""
    sktl.clear_cache()


class GalleryOrder:
    """A key for sorting, as sphinx-gallery asks for."""

    def __init__(self, folder: str):
        self.folder = folder

    def __call__(self, filename: str) -> tuple[int, str]:
        """Return the place of an example."""
        name = filename.removeprefix("plot_").removesuffix(".py")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)
