"""A workspace: the folder that holds one forecast system's settings, data, models and results."""

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
"""Bytes: file systems allow 255, and names are parts of longer ones."""

_NEW_SETTINGS = """\
# Settings of this convcast workspace. A flag or a CONVCAST_* variable overrides what stands here; what does not
# stand here comes from the preset. docs/settings.md lists them all.
preset = "{preset}"
"""


@dataclass(frozen=True)
class Workspace:
    """Where everything lies under one folder."""

    root: Path

    @property
    def settings_file(self) -> Path:
        return self.root / SETTINGS_FILE

    @property
    def archive(self) -> Path:
        return self.root / "archive"

    @property
    def simulated(self) -> Path:
        """The simulated publisher's bucket."""
        return self.root / "simulated"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset.zarr"

    @property
    def cache(self) -> Path:
        """Of the dataset: hours unpacked for training."""
        return self.root / "cache"

    @property
    def forecasts(self) -> Path:
        return self.root / "forecasts"

    @property
    def products(self) -> Path:
        """What was made of ensembles, one an initial time."""
        return self.root / "products"

    @property
    def latest(self) -> Path:
        """Which forecast is the newest, for those who fetch it."""
        return self.root / "latest.json"

    @property
    def page(self) -> Path:
        """The folder of what people look at: index.html and its pictures."""
        return self.root / "latest"

    @property
    def alerted(self) -> Path:
        """Of which forecasts and points somebody was told."""
        return self.root / "thresholds.json"

    @property
    def last_cycle(self) -> Path:
        """The journal entry of the last cycle, by itself."""
        return self.root / "cycle.json"

    @property
    def metrics(self) -> Path:
        """For Prometheus."""
        return self.root / "metrics.prom"

    def model(self, name: str) -> Path:
        """Raises SettingsError for a name that is none, or leads elsewhere."""
        return self.root / "models" / _plain(name)

    def forecast(self, init: notation.Hour) -> Path:
        return self.forecasts / f"{notation.compact(init)}.zarr"

    def product(self, init: notation.Hour) -> Path:
        return self.products / f"{notation.compact(init)}.zarr"

    def temporary_members(self, init: notation.Hour) -> Path:
        """Members that are kept only until their products are made."""
        return self.products / f".{notation.compact(init)}.members.zarr"

    def verification(self, name: str) -> Path:
        """Raises SettingsError for a name that is none, or leads elsewhere."""
        return self.root / "verification" / _plain(name)

    def lock(self, room: str) -> Path:
        return self.root / "locks" / f"{_plain(room)}.lock"

    def record(self, verb: str, **entry: Any) -> None:
        """Add one finished unit of work to journal.jsonl."""
        append_line(self.root / "journal.jsonl", {"verb": verb} | entry)


def _plain(name: str) -> str:
    """A name that stands for one folder or file of its own, and for no path."""
    one = name and name.isprintable() and not name.startswith(".") and PurePath(name).name == name
    if not one or len(name.encode()) > MAX_NAME_BYTES:
        raise SettingsError(f"{name!r} is no name", advice="choose one of letters, digits, - and _, without / in it")
    return name


def open_workspace(root: Path) -> Workspace:
    """An existing workspace.

    Raises SettingsError where the folder is not one.
    """
    if not (root / SETTINGS_FILE).is_file():
        raise SettingsError(
            f"{root} is not a convcast workspace (it has no {SETTINGS_FILE})",
            advice=f"start one with `convcast fetch --days 14 --workspace {root}`, or try `convcast demo`",
        )
    return Workspace(root)


def create_workspace(
    root: Path, *, preset: str = "phase1", tables: Mapping[str, Mapping[str, Any]] | None = None
) -> Workspace:
    """A workspace at this folder, which may exist; a folder of other things is refused.

    `tables` are settings that a new workspace starts with, by group; one that exists keeps its own.

    Raises SettingsError where the folder is a file, or holds something and is not a workspace.
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
    text = _NEW_SETTINGS.format(preset=preset)
    for group, values in (tables or {}).items():
        lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]  # JSON scalars and lists are TOML
        text += "\n".join(["", f"[{group}]", *lines, ""])
    write_bytes(root / SETTINGS_FILE, text.encode())
    return Workspace(root)
