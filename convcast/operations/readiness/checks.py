"""Checks that this machine can run what the settings ask for, each with a fix where it fails."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

import psutil

from convcast.archive.forcing import Forcing
from convcast.notation import without_credentials
from convcast.operations import stages
from convcast.settings import Settings
from convcast.workspace import Workspace

ARCHIVE_AN_HOUR = 9.8e6
DATASET_AN_HOUR = 9.1e6
"""Bytes of one hour of seven fields over CONUS, in the archive and in the dataset."""
HOURS = 14 * 24
"""Number of hours for which disk space is checked: two weeks."""
FULL = 1e9
"""Bytes of free disk below which the check fails."""
LITTLE_MEMORY = 4e9
"""Bytes of memory below which a tile of the network with 33 M parameters may not fit."""
SKEW = 60
"""Maximum error of the clock, seconds; the clock decides which hours are requested."""

LIBRARY_COMMAND = (sys.executable, "-P", "-m", "convcast.operations.readiness.libraries")
LIBRARY_SECONDS = 300
WORKS = {
    "GRIB and maps": "ecCodes and PROJ work together",
    "scores": "numba compiles and scores",
    "pictures": "matplotlib draws",
    "stores": "Zarr arrays are written and read",
    "addresses": "Herbie gives the addresses of NOAA's files",
}
"""Text of a passed check, by step of convcast.operations.readiness.libraries."""
FIXES = {
    "GRIB and maps": "unset PROJ_DATA and PROJ_LIB, or pip install --force-reinstall eccodes eccodeslib pyproj",
    "scores": "pip install --force-reinstall numba llvmlite",
    "pictures": "unset MPLBACKEND and MATPLOTLIBRC, or pip install --force-reinstall matplotlib",
    "stores": "set TMPDIR to a folder that can be written to, or pip install --force-reinstall zarr numcodecs",
    "addresses": "set TMPDIR to a folder that can be written to, or pip install --force-reinstall herbie-data",
}


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check: ok, note (it works, with a limitation) or fail."""

    subject: str
    state: Literal["ok", "note", "fail"]
    detail: str
    fix: str | None = None


def run_checks(workspace: Workspace, settings: Settings) -> Iterator[CheckResult]:
    """Run all checks in turn; a failed check does not stop the others."""
    yield from _libraries()
    yield from _torch(settings)
    folder = next(folder for folder in (workspace.root, *workspace.root.absolute().parents) if folder.exists())
    yield _disk(folder, settings)
    if os.access(folder, os.W_OK):
        yield _locks(folder)
    yield _memory(settings)
    answers = [_source(name, settings) for name in settings.archive.sources]
    enough = any(source.state == "ok" for source, _ in answers)
    for source, clock in answers:
        yield replace(source, state="note") if enough and source.state == "fail" else source  # another source answers
        if clock is not None:
            yield clock


def _libraries() -> Iterator[CheckResult]:
    """Try the libraries in a process of their own, so that a crash becomes a failed check."""
    ended = stages.run_command([*LIBRARY_COMMAND], seconds=LIBRARY_SECONDS, grace=5)
    steps, died = ended.result.get("ended", {}), ended.result.get("next")
    for step, error in steps.items():
        if error is None:
            yield CheckResult(step, "ok", WORKS[step] + (_ignored() if step == "GRIB and maps" else ""))
        else:
            yield CheckResult(step, "fail", error, FIXES[step])
    if died is not None or not steps:
        how = f"ended with {ended.code}"
        if ended.stopped:
            how = f"took longer than {LIBRARY_SECONDS} s"
        elif ended.code < 0:
            how = f"crashed ({signal.Signals(-ended.code).name})"
        step = died or "libraries"
        yield CheckResult(
            step, "fail", f"{how}: {ended.stderr}".removesuffix(": "), FIXES.get(step, FIXES["GRIB and maps"])
        )


def _ignored() -> str:
    from convcast.grib import IGNORED  # imported only after ecCodes is known to load

    return f"; {', '.join(IGNORED)} not used" if IGNORED else ""


def _torch(settings: Settings) -> Iterator[CheckResult]:
    try:
        import torch
    except ImportError as error:
        yield CheckResult("torch", "fail", str(error), "pip install -c constraints.txt torch")
        return
    from convcast.model import resolve_precision

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            known = torch.cuda.get_device_properties(number)
            gigabytes = known.total_memory / 1e9
            detail = f"torch {torch.__version__}, {known.name}, {gigabytes:.0f} GB"
            if gigabytes < 22 and settings.preset != "demo":
                yield CheckResult(
                    "GPU", "note", f"{detail}: {settings.preset} wants 24 GB", "set training.recompute = true"
                )
            else:
                yield CheckResult("GPU", "ok", detail)
        return
    precision = resolve_precision("auto", torch.device("cpu"))
    detail = f"torch {torch.__version__} finds no GPU; {os.cpu_count()} CPU cores, {precision}"
    if settings.preset == "demo":
        yield CheckResult("GPU", "ok", f"{detail}, which the demo is made for")
    else:
        built = torch.version.cuda
        fix = "check the driver with nvidia-smi" if built else "with a GPU: install torch's CUDA build (pytorch.org)"
        yield CheckResult("GPU", "note", f"{detail}: training {settings.preset} would take weeks", fix)


def _locks(folder: Path) -> CheckResult:
    """Check that files can be locked; some network file systems cannot, and two runs would collide."""
    try:
        with TemporaryFile(dir=folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.fsync(file.fileno())
    except OSError as error:
        fix = "choose a --workspace on a local disk, or have the file system mounted with locks"
        return CheckResult("locks", "fail", f"files at {folder} cannot be locked ({error.strerror})", fix)
    return CheckResult("locks", "ok", f"files at {folder} can be locked")


def _disk(folder: Path, settings: Settings) -> CheckResult:
    if not os.access(folder, os.W_OK):
        return CheckResult("disk", "fail", f"{folder} cannot be written to", "choose another --workspace")
    free = shutil.disk_usage(folder).free
    forcing = Forcing.of(settings.model, settings.dataset.analysis_lead)
    files = 1 if forcing is None else 1 + len(forcing.hrrr_leads)  # an hour's analysis, and a cycle's forecasts
    needed = files * HOURS * (ARCHIVE_AN_HOUR + DATASET_AN_HOUR) if settings.dataset.region == "conus" else FULL
    detail = f"{free / 1e9:.0f} GB free at {folder}"
    if free < FULL:
        return CheckResult("disk", "fail", detail, "free some space; what is complete is kept")
    if free < needed:
        return CheckResult(
            "disk",
            "note",
            f"{detail}; 14 days over CONUS{' with forcing' * (forcing is not None)} take {needed / 1e9:.1f}",
            "crop with --region",
        )
    return CheckResult("disk", "ok", detail)


def _memory(settings: Settings) -> CheckResult:
    total = psutil.virtual_memory().total
    detail = f"{total / 1e9:.0f} GB"
    if total < LITTLE_MEMORY and settings.preset != "demo":
        fix = "use the preset demo, or a smaller sampling.tile"
        return CheckResult("memory", "note", f"{detail} is little for {settings.preset}", fix)
    return CheckResult("memory", "ok", detail)


def _source(name: str, settings: Settings) -> tuple[CheckResult, CheckResult | None]:
    """Check that a source answers, and the clock against the time in its answer."""
    from convcast.archive import kind_of
    from convcast.archive.web.probe import probe

    shown, kind = without_credentials(name), kind_of(name)
    subject = f"source {shown}"
    if kind in ("simulated", "folder"):
        return CheckResult(subject, "ok", "made here" if kind == "simulated" else "a folder"), None
    reached = probe(name, settings.archive)
    if reached.error is not None:
        fix = "name another in archive.sources, or check network and proxy (HTTPS_PROXY)"
        return CheckResult(subject, "fail", reached.error, fix), None
    answers = CheckResult(subject, "ok", f"answers in {reached.seconds:.1f} s")
    if reached.clock is None:
        return answers, None
    wrong = time.time() - reached.clock
    if abs(wrong) <= SKEW:
        return answers, CheckResult("clock", "ok", f"within {SKEW} s of {shown}")
    detail = f"{abs(wrong):.0f} s {'ahead of' if wrong > 0 else 'behind'} {shown}"
    return answers, CheckResult("clock", "fail", detail, "set the clock (timedatectl set-ntp true)")
