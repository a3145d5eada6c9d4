"""Packages built from the repository are complete: the wheel, the image by its own steps, the conda recipe."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

import convcast

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEPS = [
    line.split(maxsplit=1)
    for line in (ROOT / "packaging/Containerfile").read_text().splitlines()
    if line and not line.startswith("#")
]
CONDA_NAMES = {
    "eccodes": "python-eccodes",
    "opencv-python-headless": "py-opencv",
    "prometheus-client": "prometheus_client",
    "torch": "pytorch",
}
"""Names on conda-forge that differ from those on the Python Package Index."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The files that the image copies, at their places below a folder."""
    root = tmp_path_factory.mktemp("image")
    for word, rest in STEPS:
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                place = root / target.lstrip("/")
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    place.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / source, place)
    return root


@pytest.fixture(scope="module")
def wheel(image):
    """The wheel, built of what the image copies and nothing else."""
    words = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(image), f"{image}/src"]
    subprocess.run([sys.executable, "-m", *words], check=True)
    (path,) = image.glob("*.whl")
    return path


def test_the_wheel_has_every_file_of_the_package(wheel):
    tracked = subprocess.run(["git", "ls-files", "convcast"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(tracked.stdout.split()) <= set(ZipFile(wheel).namelist())


def test_the_installed_wheel_runs_outside_the_repository(wheel, tmp_path):
    words = ["pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run([sys.executable, "-m", *words], check=True)
    program = [
        sys.executable,
        "-c",
        "import convcast; print(convcast.__file__); from convcast.cli.main import run; run()",
    ]
    environment = {"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}

    for verb in (["--help"], ["init", "workspace", "--preset", "demo"], ["status", "-w", "workspace"]):
        done = subprocess.run([*program, *verb], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(str(tmp_path / "site"))


def test_the_steps_of_the_image_are_sound():
    assert [word for word, _ in STEPS][-2:] == ["ENTRYPOINT", "CMD"]
    version = re.search(r"python:(3\.\d+)", dict(STEPS)["FROM"])
    assert f"Programming Language :: Python :: {version[1]}" in PROJECT["classifiers"]
    for word, rest in STEPS:
        if word == "RUN":
            subprocess.run(["bash", "-n", "-c", rest], check=True)
            for program in re.findall(r"(?:^|&& )(\S+)", rest):
                assert program in {"pip", "rm", "useradd", "install"}
    installs = next(shlex.split(rest) for word, rest in STEPS if word == "RUN" and rest.startswith("pip"))
    assert {"/src", "/src/constraints.txt"} <= set(installs)


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    recipe = yaml.safe_load((ROOT / "packaging/recipe.yaml").read_text())
    wanted = {}
    for requirement in PROJECT["dependencies"]:
        name, versions = re.fullmatch(r"([\w.-]+)(.*)", requirement).groups()
        wanted[CONDA_NAMES.get(name, name).lower()] = versions

    found = dict(line.split(" ", 1) for line in recipe["requirements"]["run"])

    assert found.pop("python") == PROJECT["requires-python"]
    assert found == wanted
    assert recipe["context"]["version"] == convcast.__version__
    (script,) = recipe["build"]["python"]["entry_points"]
    assert script == "convcast = " + PROJECT["scripts"]["convcast"]
