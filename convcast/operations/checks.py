"""Whether this machine can do what the settings ask for, one finding after the other, each with what would mend it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from convcast.notation import without_credentials
from convcast.settings import Settings
from convcast.workspace import Workspace

ARCHIVE_AN_HOUR = 9.8e6
DATASET_AN_HOUR = 9.1e6
"""Bytes of an hour of seven fields over CONUS (docs/archive.md, docs/data.md)."""
HOURS = 14 * 24
FULL = 1e9
"""Bytes of free disk below which nothing should be begun."""
LITTLE_MEMORY = 4e9
"""Bytes below which a tile of the 32 M network does not fit beside the rest."""
SKEW = 60
"""Seconds that the clock may be wrong by: hours are asked for by it."""


@dataclass(frozen=True)
class Finding:
    """What was looked at, and whether it is well: ok, note (it will do, but know this) or fail."""

    subject: str
    state: Literal["ok", "note", "fail"]
    detail: str
    fix: str | None = None


def examine(workspace: Workspace, settings: Settings) -> Iterator[Finding]:
    """All findings; one that fails never keeps the others from being looked at."""
    yield from _packages()
    yield from _torch(settings)
    yield _disk(workspace.root, settings)
    yield _memory(settings)
    answers = [_source(name, settings) for name in settings.archive.sources]
    enough = any(source.state == "ok" for source, _ in answers)
    for source, clock in answers:
        yield replace(source, state="note") if enough and source.state == "fail" else source  # others stand in for it
        if clock is not None:
            yield clock


def _packages() -> Iterator[Finding]:
    """GRIB and projections together: with some wheels, ecCodes imported before PROJ breaks it (convcast.grib)."""
    try:
        import convcast.grib  # noqa: F401  the order of the two is settled there
        from convcast.grid import CONUS

        latitude, longitude = CONUS.latitude_longitude()
        right = abs(float(latitude[0, 0]) - 21.138) < 0.01 and abs(float(longitude[0, 0]) + 122.72) < 0.01
    except Exception as error:  # noqa: BLE001  whatever a broken library raises is the finding
        fix = "pip install --force-reinstall eccodes pyproj"
        yield Finding("GRIB and maps", "fail", f"{type(error).__name__}: {error}", fix)
        return
    if right:
        yield Finding("GRIB and maps", "ok", "ecCodes and PROJ work together")
    else:
        yield Finding("GRIB and maps", "fail", "PROJ puts the HRRR grid elsewhere", "unset PROJ_DATA and PROJ_LIB")


def _torch(settings: Settings) -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding("torch", "fail", str(error), "pip install -c constraints.txt torch")
        return
    from convcast.model import resolve_precision

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            known = torch.cuda.get_device_properties(number)
            gigabytes = known.total_memory / 1e9
            detail = f"torch {torch.__version__}, {known.name}, {gigabytes:.0f} GB"
            if gigabytes < 22 and settings.preset != "demo":
                yield Finding(
                    "GPU", "note", f"{detail}: {settings.preset} wants 24 GB", "set training.recompute = true"
                )
            else:
                yield Finding("GPU", "ok", detail)
        return
    precision = resolve_precision("auto", torch.device("cpu"))
    detail = f"torch {torch.__version__} finds no GPU; {os.cpu_count()} CPU cores, {precision}"
    if settings.preset == "demo":
        yield Finding("GPU", "ok", f"{detail}, which the demo is made for")
    else:
        built = torch.version.cuda
        fix = "check the driver with nvidia-smi" if built else "with a GPU: install torch's CUDA build (pytorch.org)"
        yield Finding("GPU", "note", f"{detail}: training {settings.preset} would take weeks", fix)


def _disk(root: Path, settings: Settings) -> Finding:
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK):
        return Finding("disk", "fail", f"{there} cannot be written to", "choose another --workspace")
    free = shutil.disk_usage(there).free
    needed = HOURS * (ARCHIVE_AN_HOUR + DATASET_AN_HOUR) if settings.dataset.region == "conus" else FULL
    detail = f"{free / 1e9:.0f} GB free at {there}"
    if free < FULL:
        return Finding("disk", "fail", detail, "free some space; what is complete is kept")
    if free < needed:
        return Finding("disk", "note", f"{detail}; 14 days over CONUS take {needed / 1e9:.1f}", "crop with --region")
    return Finding("disk", "ok", detail)


def _memory(settings: Settings) -> Finding:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    detail = f"{total / 1e9:.0f} GB"
    if total < LITTLE_MEMORY and settings.preset != "demo":
        fix = "use the preset demo, or a smaller sampling.tile"
        return Finding("memory", "note", f"{detail} is little for {settings.preset}", fix)
    return Finding("memory", "ok", detail)


def _source(name: str, settings: Settings) -> tuple[Finding, Finding | None]:
    """Whether it answers; and by the time that it says, whether the clock is right."""
    from convcast.archive import kind_of
    from convcast.archive.probe import probe

    shown, kind = without_credentials(name), kind_of(name)
    subject = f"source {shown}"
    if kind in ("simulated", "folder"):
        return Finding(subject, "ok", "made here" if kind == "simulated" else "a folder"), None
    reached = probe(name, settings.archive)
    if reached.error is not None:
        fix = "name another in archive.sources, or check network and proxy (HTTPS_PROXY)"
        return Finding(subject, "fail", reached.error, fix), None
    answers = Finding(subject, "ok", f"answers in {reached.seconds:.1f} s")
    return answers, None if reached.clock is None else _clock(shown, reached.clock)


def _clock(name: str, said: float) -> Finding:
    wrong = time.time() - said
    if abs(wrong) <= SKEW:
        return Finding("clock", "ok", f"within {SKEW} s of {name}")
    fix = "set the clock (timedatectl set-ntp true)"
    return Finding("clock", "fail", f"{abs(wrong):.0f} s {'ahead of' if wrong > 0 else 'behind'} {name}", fix)
