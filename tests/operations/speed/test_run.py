"""The measurements of a GPU, at small sizes on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convcast.ensemble.tiled_denoiser import TiledDenoiser
from convcast.errors import SettingsError
from convcast.grid import Grid
from convcast.operations.speed import made_up, measure
from convcast.operations.speed.measure import (
    COMPILING,
    SMALL,
    Clock,
    Measurement,
    OutOfTimeError,
    Subject,
    agreement,
    flops_of_evaluation,
    member,
    preparation,
)
from convcast.operations.speed.report import to_markdown
from convcast.operations.speed.run import run, settings
from convcast.settings.load import load_settings
from convcast.variables import REFC

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
SCRIPT = Path(__file__).parents[3] / "benchmarks" / "gpu.py"
BARE = """
import sys, runpy
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, requires
script, *arguments = sys.argv[1:]
needed = runpy.run_path(script)["NEEDED"]
allowed, queue = set(), ["torch", "numpy", "scipy", "xarray", "numba", "safetensors", *needed]
while queue:
    name = queue.pop().lower().replace("_", "-")
    if name not in allowed:
        allowed.add(name)
        for line in requires(name) or []:
            if "extra ==" not in line:
                queue.append(line.split(";")[0].split("[")[0].split("<")[0].split(">")[0].split("=")[0]
                             .split("!")[0].split("~")[0].split("(")[0].strip())
refused = {top for top, names in packages_distributions().items() if top != "convcast"
           and not any(name.lower().replace("_", "-") in allowed for name in names)}

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in refused else super().find_spec(name, path, target)

assert {"typer", "rich", "cv2", "herbie", "matplotlib", "distributed"} <= refused
sys.meta_path = [Without if finder is PathFinder else finder for finder in sys.meta_path]
from convcast.model.features import correction
correction.MAX_STEPS = 2
sys.argv = [script, *arguments]
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A small model, untrained."""
    small = settings(small=True)["phase1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convcast.model.features.correction.MAX_STEPS", 2)
        return Subject(small, made_up.description(small))


@pytest.mark.slow
def test_the_script_measures_everything_with_the_few_packages_that_it_names(tmp_path):
    """Each row has values or says why not, and both files hold them."""
    options = ["--small", "--device", "cpu", "--minutes", "600", "--output", str(tmp_path)]
    command = [sys.executable, "-c", BARE, str(SCRIPT), *options]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]

    found = json.loads((tmp_path / "gpu.json").read_text())
    rows = {(row["name"], row["preset"], row["how"]): row for row in found["rows"]}
    assert found["device"] == "CPU"
    assert rows["peak", "", "bfloat16 matrix product"]["values"]["TFLOP/s"] > 0
    for precision in ("float32", "TF32"):
        assert rows["agreement", "phase1", precision]["values"]["relative error"] < 1e-5
        prepared = rows["agreement", "phase1", f"preparation of a case, {precision}"]["values"]
        assert prepared.pop("s a case") > 0
        assert set(prepared.values()) == {0}  # the CPU with itself
    half = rows["agreement", "phase1", "bfloat16"]["values"]
    assert 1e-4 < half["relative error"] < 0.1
    for preset in ("phase1", "phase2"):
        assert rows["training", preset, "channels last"]["values"]["s a step"] > 0
        assert rows["training", preset, "channels first"]["values"]["rows a second"] > 0
        tiles, piece = (rows["member", preset, how]["values"] for how in ("tiles", "one piece"))
        assert tiles["TFLOP an evaluation"] > piece["TFLOP an evaluation"] > 0
        assert tiles["s for the conditions"] > 0
        assert all(tiles[f"s a member, {evaluations} evaluations"] > 0 for evaluations in (1, 2))
        assert "not counted on a CPU" in rows["batch", preset, "largest"]["note"]
    assert all(row["values"] or row["note"] for row in rows.values())
    table = (tmp_path / "gpu.md").read_text()
    assert all(f"| {name} | {preset} | {how} |" in table for name, preset, how in rows)


def test_without_a_gpu_nothing_is_measured_by_mistake(tmp_path):
    with pytest.raises(SettingsError, match="no GPU here to measure") as caught:
        next(run(tmp_path, "cpu", seconds=10))
    assert "--small" in caught.value.advice
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "enough"),
    [
        ("training", {}, 20),  # BUILDING, and 1e12 operations at a tenth of 1e13 a second
        ("training", {"compiled": True}, 20 + COMPILING),
        ("member", {"whole": False}, 20),
        ("member", {"whole": True}, 20),
    ],
)
def test_a_measurement_longer_than_the_time_left_is_not_begun(monkeypatch, subject, name, options, enough):
    begun = []

    def begin(*arguments, **options):
        begun.append(arguments)
        raise SettingsError("begun")

    monkeypatch.setattr(measure, "flops_of_step", lambda *_, **__: 5e12)
    monkeypatch.setattr(measure, "flops_of_evaluation", lambda _, shape: 2.5e12 / (1 if options["whole"] else 4))
    monkeypatch.setattr(measure, "Trainer", begin)
    monkeypatch.setattr(measure, "Forecaster", begin)
    sizes = replace(SMALL, grid=Grid(48, 48, 400, 900), overlap=16, members=1)  # four tiles
    for left, said in ((enough - 5, "no time was left"), (enough + 5, "begun")):
        clock = Clock(GPU, left)
        run = partial(getattr(measure, name), Measurement(name), clock, sizes, subject, rate=10.0, **options)
        assert measure._attempt(Measurement(name), run, clock).note == said
    assert len(begun) == 1


def test_a_step_is_repeated_only_while_there_is_time(monkeypatch):
    """A first run of 4 s on a fake clock tells how long one takes; then as many run as fit."""
    now = [0.0]
    monkeypatch.setattr(measure.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])

    def run():
        now[0] += 4

    assert Clock(CPU, 30).seconds(run, each=10, warm_up=1, repeats=9) == 4
    assert now[0] == 28
    with pytest.raises(OutOfTimeError):
        Clock(CPU, 9).seconds(run, each=10)
    assert now[0] == 28


@pytest.mark.parametrize(("rate", "members"), [(1e3, 8), (1e-4, 1)])
def test_fewer_members_are_drawn_together_on_a_slow_device(subject, rate, members):
    sizes = replace(SMALL, members=8, evaluations=(1, 2))
    row = member(Measurement("member"), Clock(CPU, 1e9), sizes, subject, rate=rate, whole=False)
    assert row.values["members at once"] == members


def test_a_member_s_time_includes_its_bounds_and_fields(monkeypatch, subject):
    seen = []

    class Noted(TiledDenoiser):
        def clamp(self, x0):
            seen.append("clamp")
            return super().clamp(x0)

        def fields(self, x0):
            fields = super().fields(x0)
            refc = fields[:, subject.settings.dataset.fields.index("refc")]
            assert refc.min() >= REFC.bounds[0]
            assert refc.max() <= REFC.bounds[1]
            seen.append("fields")
            return fields

    monkeypatch.setattr(measure, "TiledDenoiser", Noted)
    member(Measurement("member"), Clock(CPU, 1e9), SMALL, subject, rate=1, whole=True)
    draws = "".join(mark[0] for mark in seen).split("f")
    assert len(draws) == 5  # one evaluation three times, then two
    assert all("c" in draw for draw in draws[:-1])


@pytest.mark.parametrize(
    ("compare", "precision", "rounded"),
    [
        (agreement, "float32", False),
        (agreement, "TF32", True),
        (agreement, "bfloat16", False),
        (preparation, "float32", False),
        (preparation, "TF32", True),
    ],
)
def test_convolutions_are_rounded_to_tf32_only_where_the_row_says_so(monkeypatch, subject, compare, precision, rounded):
    """The rule for CUDA's convolutions is set while those of the row are computed, backward too, and reset after."""
    seen = set()

    class Rules(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "convolution" in str(function):
                seen.add(torch.backends.cudnn.allow_tf32)
            return function(*args, **(kwargs or {}))

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not rounded)
    with Rules():
        compare(Measurement("agreement"), Clock(CPU, 600), SMALL, subject, rate=1, precision=precision)
    assert seen == {rounded}
    assert torch.backends.cudnn.allow_tf32 is not rounded


def test_a_table_says_what_was_not_measured():
    rows = [
        Measurement("peak", how="x", values={"TFLOP/s": 123.4}),
        Measurement("batch", "phase1", "largest", note="no time was left"),
    ]
    known = {"device": "Card", "GB": 24.0, "torch": "2", "cuda": "12", "convcast": "0"}
    table = to_markdown(known, rows)
    assert table.startswith("Card, 24.0 GB, torch 2, CUDA 12, convcast 0.\n")
    assert "| peak |  | x | TFLOP/s 123 |" in table
    assert "| batch | phase1 | largest | no time was left |" in table


def test_operations_are_counted_by_cells():
    tiny = load_settings(flags={"model": {"base": 8, "multipliers": [1], "attention": []}}, preset="demo")
    once, twice = (flops_of_evaluation(tiny, (16, side)) for side in (32, 64))
    assert twice == pytest.approx(2 * once, rel=0.01)  # the embedding of the noise level is counted once
