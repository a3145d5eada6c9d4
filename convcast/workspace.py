"""The workspace: the folder with the settings, data, models and results of one forecast system."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from convcast import notation
from convcast.errors import SettingsError
from convcast.files import PARTIAL, append_line, sweep, write_bytes

SETTINGS_FILE = "convcast.toml"
MAX_NAME_BYTES = 200
"""Maximum length of a name in bytes: file systems allow 255, and names become parts of longer file names."""

_NEW_SETTINGS = """\
# Settings of this convcast workspace. A flag or a CONVCAST_* variable overrides what stands here; what does not
# stand here comes from the preset. docs/settings.md lists them all.
preset = "{preset}"
"""


@dataclass(frozen=True)
class Workspace:
    """Paths of the files and folders of a workspace."""

    root: Path

    @property
    def settings_file(self) -> Path:
        return self.root / SETTINGS_FILE

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def simulated(self) -> Path:
        """Folder of the simulated archive's published files."""
        return self.root / "simulated"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset.zarr"

    @property
    def cache(self) -> Path:
        """Folder of hours of the dataset that are unpacked for training."""
        return self.root / "cache"

    @property
    def forecasts(self) -> Path:
        return self.root / "forecasts"

    @property
    def products(self) -> Path:
        """Folder of the products of ensembles, one store per init time."""
        return self.root / "products"

    @property
    def latest(self) -> Path:
        """File that names the newest forecast, for programs that fetch it."""
        return self.root / "latest.json"

    @property
    def page(self) -> Path:
        """Folder of the web page: index.html and its pictures."""
        return self.root / "latest"

    @property
    def alerts_sent(self) -> Path:
        """File of the alerts that were sent, by forecast and point."""
        return self.root / "thresholds.json"

    @property
    def last_cycle(self) -> Path:
        """File with the journal entry of the last cycle."""
        return self.root / "cycle.json"

    @property
    def metrics(self) -> Path:
        """File of metrics for Prometheus."""
        return self.root / "metrics.prom"

    def model(self, name: str) -> Path:
        """Folder of a model; raises SettingsError if the name is not a plain file name."""
        return self.root / "models" / _plain(name)

    def forecast(self, init: notation.Hour) -> Path:
        return self.forecasts / f"{notation.compact(init)}.zarr"

    @property
    def raw(self) -> Path:
        """Folder of the members as the model drew them, where the forecasts hold calibrated ones."""
        return self.root / "raw"

    def raw_forecast(self, init: notation.Hour) -> Path:
        """Store of one initial time in `raw`."""
        return self.raw / f"{notation.compact(init)}.zarr"

    @property
    def calibrations(self) -> Path:
        """Folder of the calibrations, named for the last hour that each was learnt from."""
        return self.root / "calibration"

    def product(self, init: notation.Hour) -> Path:
        return self.products / f"{notation.compact(init)}.zarr"

    def temporary_members(self, init: notation.Hour) -> Path:
        """Store of members that are deleted once their products are made."""
        return self.products / f".{notation.compact(init)}.members.zarr"

    def verification(self, name: str) -> Path:
        """Folder of a verification; raises SettingsError if the name is not a plain file name."""
        return self.root / "verification" / _plain(name)

    def lock(self, room: str) -> Path:
        return self.root / "locks" / f"{_plain(room)}.lock"

    def record(self, verb: str, **entry: Any) -> None:
        """Append a finished unit of work to journal.jsonl."""
        append_line(self.root / "journal.jsonl", {"verb": verb} | entry)


def _plain(name: str) -> str:
    """Return the name if it is a plain file name, and raise SettingsError otherwise."""
    one = name and name.isprintable() and not name.startswith(".") and PurePath(name).name == name
    if not one or len(name.encode()) > MAX_NAME_BYTES:
        raise SettingsError(
            f"{name!r} cannot be a file name", advice="choose one of letters, digits, - and _, without / in it"
        )
    return name


def open_workspace(root: Path) -> Workspace:
    """Open an existing workspace.

    Raises:
        SettingsError: The folder is not a workspace.
    """
    if not (root / SETTINGS_FILE).is_file():
        raise SettingsError(
            f"{root} is not a convcast workspace (it has no {SETTINGS_FILE})",
            advice=f"start one with `convcast init {root}` or `convcast fetch --days 14 --workspace {root}`, or try "
            "`convcast demo`",
        )
    return Workspace(root)


def create_workspace(
    root: Path,
    *,
    preset: str = "phase1",
    tables: Mapping[str, Mapping[str, Any]] | None = None,
    text: str | None = None,
) -> Workspace:
    """Create a workspace, or open the one that exists at this folder.

    Args:
        root: Folder of the workspace.
        preset: Preset of a new workspace.
        tables: Settings of a new workspace, by group; an existing workspace keeps its own.
        text: Content of a new workspace's settings file, in place of the preset and the tables.

    Raises:
        SettingsError: The folder is a file, or holds other things.
    """
    if (root / SETTINGS_FILE).is_file():
        return Workspace(root)
    if root.exists() and not root.is_dir():
        raise SettingsError(f"{root} is a file, not a folder", advice="choose another --workspace")
    unfinished = set(root.glob(f".{SETTINGS_FILE}.*{PARTIAL}"))
    if root.exists() and any(path not in unfinished for path in root.iterdir()):
        raise SettingsError(
            f"{root} holds other things and is not a convcast workspace", advice="choose an empty or new folder"
        )
    sweep(root, recursive=False, shared=True)
    if text is None:
        text = _NEW_SETTINGS.format(preset=preset)
        for group, values in (tables or {}).items():
            lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]  # JSON is TOML here
            text += "\n".join(["", f"[{group}]", *lines, ""])
    write_bytes(root / SETTINGS_FILE, text.encode())
    return Workspace(root)
