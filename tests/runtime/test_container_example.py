"""The steps of the example's Dockerfile, run without a container in a fresh environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import venv
from pathlib import Path

import httpx
import onnx_models as exported
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "deployment"


def steps() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile."""
    text = re.sub(r"\\\n", " ", (FOLDER / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_the_container_starts_without_pytorch_and_without_rights():
    found = dict(steps())
    assert found["FROM"].startswith("python:3.12-slim")
    assert found["USER"] == "nobody"
    requirements = (FOLDER / "requirements.txt").read_text()
    assert not re.search(r"torch|scikit|scipy", re.sub("#.*", "", requirements))
    for kind, words in steps():
        if kind == "COPY":
            *sources, target = shlex.split(words)
            assert all((ROOT / source).exists() for source in sources)
            assert not target.startswith("/")


@pytest.mark.slow
def test_the_steps_of_the_container_make_a_service(tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    place = tmp_path / "srv"
    place.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "SERVICE_"))}
    environment["PATH"] = f"{tmp_path / 'env' / 'bin'}{os.pathsep}{environment['PATH']}"
    commands = {}
    for kind, words in steps():
        if kind == "COPY":
            *sources, target = shlex.split(words)
            for source in sources:
                copied = ROOT / source
                if copied.is_dir():
                    shutil.copytree(copied, place / target)
                else:
                    into = place / target / copied.name if target.endswith("/") else place / target
                    into.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(copied, into)
        elif kind == "RUN":
            subprocess.run(words, shell=True, check=True, cwd=place, env=environment, timeout=900)
        elif kind == "ENV":
            environment |= dict(pair.split("=") for pair in shlex.split(words))
        elif kind in ("CMD", "HEALTHCHECK"):
            commands[kind] = json.loads(words.removeprefix("CMD "))
    assert sorted(path.name for path in place.iterdir()) == ["requirements.txt", "service.py"]
    serve(place, environment, commands)


def serve(place: Path, environment: dict[str, str], commands: dict[str, list[str]]) -> None:
    """Start the command of the container, ask whether it is healthy, and predict."""
    (place / "model.onnx").write_bytes(exported.content())
    Image.new("RGB", (50, 60), "blue").save(place / "blue.png")
    environment |= {"UVICORN_HOST": "127.0.0.1", "UVICORN_PORT": "0"}
    with subprocess.Popen(commands["CMD"], cwd=place, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            url = next(found[1] for line in process.stderr if (found := re.search(r"running on (http://\S+)", line)))
            environment["UVICORN_PORT"] = url.rpartition(":")[2]
            subprocess.run(commands["HEALTHCHECK"], check=True, env=environment, timeout=60)
            with open(place / "blue.png", "rb") as file:
                answer = httpx.post(f"{url}/predict", files={"images": file}, timeout=60)
            assert answer.json()["predictions"][0]["prediction"] == "blue"
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
