"""What an evaluation found, as values, apart from how it is computed and shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sktl._estimators.estimator_summary import Fact
from sktl._evaluation.findings import Finding
from sktl._evaluation.model_figures import Figures
from sktl._evaluation.typicality_figures import TypicalityFigures
from sktl._images.samples import Sample

from .evaluation_heat import Maps


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The values of :class:`sktl.EvaluationReport`, which documents them."""

    figures: Figures
    positions: np.ndarray
    n_images: int
    names: tuple[str, ...] = field(repr=False)
    findings: tuple[Finding, ...]
    typicality: TypicalityFigures | str = field(repr=False)
    worst: np.ndarray = field(repr=False)
    maps: Maps | str = field(repr=False)
    facts: tuple[Fact, ...] = field(repr=False)
    limits: tuple[str, ...] = field(repr=False)
    samples: Sequence[Sample] = field(repr=False)
