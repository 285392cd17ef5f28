"""The examples run as they are, and draw what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the examples draw with matplotlib, which the extra `plot` installs")
EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("plot_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_an_example_runs_without_data_of_its_own(example, tmp_path):
    if "Saliency" in example.read_text(encoding="utf-8"):
        pytest.importorskip("captum", reason="the extra `explain` installs it")
    environment = {name: value for name, value in os.environ.items() if name != "SKTL_DATA"} | {"MPLBACKEND": "Agg"}
    subprocess.run([sys.executable, example], cwd=tmp_path, env=environment, check=True, timeout=600)
    assert (tmp_path / f"{example.stem.removeprefix('plot_')}.png").stat().st_size > 10_000
