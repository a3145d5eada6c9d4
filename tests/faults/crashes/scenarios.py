"""The verbs that are killed, each with its initial state: a small simulated world, a network of a few channels."""

from __future__ import annotations

from dataclasses import dataclass

SETTINGS = """\
preset = "demo"
[archive]
sources = ["{bucket}"]
workers = 1
[dataset]
fields = ["refc", "t2m"]
[split]
validation_days = 0.17
test_days = 0.2
gap_hours = 0
[model]
base = 8
history = 2
multipliers = [1, 1]
blocks = 1
attention = []
encoder_multipliers = [1, 1]
embedding = 8
diffusion_steps = 10
[training]
patch = 32
batch = 2
draws = 1
steps = 4
minutes = 1e6
checkpoint_every = 2
log_every = 2
keep = 1
validation_cases = 1
validation_members = 2
threads = 1
[sampling]
members = 2
steps = 1
threads = 1
[verification]
against = ["persistence"]
resamples = 100
[operations]
least_free = 0
page_fields = ["refc"]
max_catch_up = 1
"""

NEW = [
    *("fetch", "--source", "{bucket}", "--preset", "demo", "--start", "2024-05-09T00", "--end", "2024-05-09T01"),
    *("--set", "archive.workers=1"),
]
INIT, NEXT = "2024-05-09T12", "2024-05-09T13"
SAMPLE = ["sample", "--init", INIT, "--leads", "1-2"]


@dataclass(frozen=True)
class Scenario:
    """A verb, and the scenario after which it runs."""

    words: list[str]
    after: str | None = None
    settings: str | None = None
    """Content of convcast.toml from this scenario on."""
    tested: bool = True
    elsewhere: tuple[str, ...] = ()
    """Folders in which calls are tried only with other verbs, by default."""


SCENARIOS = {
    "init": Scenario(["init", "--preset", "demo"]),
    "fetch": Scenario(NEW),
    "archived": Scenario(
        ["fetch", "--start", "2024-05-09T00", "--end", "2024-05-09T15"], settings=SETTINGS, tested=False
    ),
    "few archived": Scenario(
        ["fetch", "--start", "2024-05-09T00", "--end", "2024-05-09T01"], settings=SETTINGS, tested=False
    ),
    "preprocess": Scenario(["preprocess"], after="few archived"),
    # The cycle before the first hour is not published: a gap.
    "forced archived": Scenario(
        ["fetch", "--start", "2024-05-09T00", "--end", "2024-05-09T01", "--max-missing", "1"],
        settings=SETTINGS.replace("[model]\n", '[model]\nforcing = "hrrr"\n'),
        tested=False,
    ),
    "preprocess with forcing": Scenario(["preprocess"], after="forced archived"),
    "preprocessed": Scenario(["preprocess"], after="archived", tested=False),
    "train": Scenario(["train"], after="preprocessed"),
    "sample": Scenario(SAMPLE, after="train"),
    "sample more members": Scenario([*SAMPLE, "--members", "3"], after="sample"),
    "sample, keep products": Scenario([*SAMPLE[:2], NEXT, *SAMPLE[3:], "--keep", "products"], after="train"),
    "verify": Scenario(["verify"], after="sample"),
    "calibrate": Scenario(["calibrate", "--until", NEXT], after="sample"),
    "sample, calibrated": Scenario(
        [*SAMPLE[:2], NEXT, *SAMPLE[3:], "--set", "sampling.calibration=true"], after="calibrate"
    ),
    "export netCDF": Scenario(["export", "--init", INIT], after="sample"),
    "export GRIB2": Scenario(["export", "--init", INIT, "--format", "grib2"], after="sample"),
    "plot": Scenario(["plot", "--init", INIT, "--field", "t2m", "--leads", "1"], after="sample"),
    "cycle": Scenario(
        ["cycle", "--now", "2024-05-09T16:05"],
        after="train",
        elsewhere=("archive", "dataset.zarr", "forecasts", "verification/operational/cases"),
    ),
    "prune": Scenario(
        ["cycle", "--now", "2024-05-09T16:05"],
        after="cycle",
        settings=SETTINGS.replace("max_catch_up = 1", "max_catch_up = 0")
        + "[retention]\narchive_hours = 3\ndataset_hours = 3\nforecasts_days = 0.01\nproducts_days = 0.01\n",
    ),
}
