"""benchmarks/three_ways.py at a toy size: each way has all its scores, and what is there already is kept."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "three_ways.py"
TOY = (
    "--seconds=0 --seeds=0,1 --worlds=demo --members=3 --size=32 --days=3 --guidance=0.9 "
    "--inits=2024-05-29T18/2024-05-30T18/24h --set=split.test_days=2 --set=split.validation_days=0 "
    "--set=simulation.start=2024-05-28T00 --set=simulation.days=3 "
    "--set=verification.baseline_members=4 --set=verification.resamples=100 --set=model.base=8 "
    "--set=model.encoder_multipliers=[1] --set=training.batch=2 --set=training.draws=1 "
    "--set=sampling.precision=float32 --set=sampling.steps=2"
)
WAYS = ["diffusion", "diffusion, one evaluation", "walks"]


@pytest.fixture
def compare(tmp_path, monkeypatch, capsys, command_line):
    """Run the script and its verbs in this process, where the correction of a reference is fitted in few steps."""
    words = [str(SCRIPT), f"--workspace={tmp_path / 'w'}", f"--ways={';'.join(WAYS)}", *TOY.split(), "--json"]
    monkeypatch.setattr("sys.argv", words)
    # The command is `python -m convcast WORDS -w WORKSPACE`.
    monkeypatch.setattr("subprocess.run", lambda command, **_: command_line(Path(command[-1]), *command[3:-2]))
    monkeypatch.setattr("convcast.model.features.correction.MAX_STEPS", 2)

    def run():
        capsys.readouterr()
        runpy.run_path(str(SCRIPT), run_name="__main__")
        said = capsys.readouterr()
        return json.loads(said.out), said.err

    threads = torch.get_num_threads()
    yield run
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)  # as the script sets it for its process


@pytest.mark.slow
def test_every_way_is_scored_beside_the_exact_ensemble(compare):
    found, said = compare()
    assert said.count("CRPS / exact") == 2 * len(WAYS)
    assert found["guidance"] == "0.9"
    assert list(found["worlds"]["demo"]) == ["1", "3"]
    rows = {row["way"]: row for row in found["worlds"]["demo"]["1"]}
    assert list(rows) == [*WAYS, "exact"]
    for way in WAYS:
        row = rows[way]
        assert row["seeds"] == [0, 1]
        value, *interval = row["crps_exact"]
        assert min(interval) <= value <= max(interval) < 10
        assert row["fields"]["crps_ratio_exact"].keys() == {"refc", "t2m", "d2m", "u10", "v10", "cape", "cin"}
        assert set(row["frequency_bias"]) == {"40", "50"}
        assert row["mean"].keys() == {
            "spread_error_ratio",
            "spread_error_correlation",
            "log_spectral_distance",
            "energy_score",
        }
        assert 0 < row["solver_seconds"] < row["seconds"]
    assert rows["diffusion"]["against_diffusion"]["crps_ratio_exact"] == [0, 0]
    assert rows["exact"]["mean"]["energy_score"] == 1
    again, said = compare()
    assert again == found
    assert "CRPS / exact" not in said
