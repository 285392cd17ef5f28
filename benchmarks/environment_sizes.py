"""Sizes of the environment of the example service, with PyTorch and without.

    python benchmarks/environment_sizes.py [--write docs/guide/run_without_torch.md]

Each environment is made anew in a temporary folder by `pip`, and measured on the disk, without `pip` itself. The
packages of PyTorch's default build take about 6 GB there for some minutes.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import venv
from pathlib import Path

from measuring import report, write_page

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "examples" / "deployment" / "requirements.txt"
# Of the default build of PyTorch for Linux; its build for CPUs lacks them.
GPU = ("nvidia*", "triton*", "cuda*", "torch/lib/*cuda*", "torch/lib/*nvshmem*")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", help="page whose table is replaced")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = installed(Path(folder), [["-r", REQUIREMENTS], ["--no-deps", ROOT]])
        record = {"without PyTorch": megabytes([small])}
    with tempfile.TemporaryDirectory() as folder:
        large = installed(Path(folder), [["-r", REQUIREMENTS, ROOT]])
        packages = next(large.glob("lib/python*/site-packages"))
        record["with PyTorch"] = megabytes([large])
        record["of it for GPUs"] = megabytes([path for pattern in GPU for path in packages.glob(pattern)])
    rows = [
        ("NumPy, Pillow, ONNX Runtime, FastAPI and sktl", record["without PyTorch"]),
        ("the same with sktl's dependencies, including PyTorch's default build", record["with PyTorch"]),
        ("of which GPU libraries, which PyTorch's CPU build does not include", record["of it for GPUs"]),
    ]
    title = "Size of the service's environment, without the model."
    report("environment_sizes", title, ("environment", "MB"), [(what, f"{size:,.0f}") for what, size in rows], record)
    if arguments.write:
        write_page("environment_sizes", arguments.write)


def installed(folder: Path, steps: list[list[object]]) -> Path:
    """Return a new environment after some calls of pip."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip"]
    for step in steps:
        subprocess.run([*pip, "install", "--quiet", "--no-cache-dir", *step], check=True)
    subprocess.run([*pip, "uninstall", "--quiet", "--yes", "pip"], check=True)
    return folder


def megabytes(paths: list[Path]) -> float:
    """Return what files take on the disk, in units of a million bytes."""
    files = {
        file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if not file.is_symlink()
    }
    return sum(512 * file.stat().st_blocks for file in files) / 1e6


if __name__ == "__main__":
    main()
