"""Refuse options that differ from those that a workspace was made with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convcast.errors import SettingsError


def remembered(sources: Sequence[str]) -> list[str] | None:
    """Return sources as a settings file has them, with absolute folders; None if an address has a password."""
    from convcast.archive.sources import kind_of
    from convcast.notation import without_credentials

    kept = []
    for name in sources:
        if without_credentials(name) != name:
            return None
        kept.append(str(Path(name).expanduser().resolve()) if kind_of(name) == "folder" else name)
    return kept


def refuse_changes(file: Path, *, preset: str | None, flags: dict[str, dict[str, Any]]) -> None:
    """Refuse options that differ from what an existing workspace was made with.

    Args:
        file: Settings file of the workspace.
        preset: Value of --preset, if given.
        flags: Values of other options, by settings group and name; None stands for one not given.

    Raises:
        SettingsError: An option differs.
    """
    from convcast.settings.load import load_settings

    settings = load_settings(file)
    if preset is not None and preset != settings.preset:
        raise SettingsError(
            f"{file.parent} has preset {settings.preset}, not {preset}",
            advice=f'write preset = "{preset}" in {file}, or choose another --workspace',
        )
    for group, values in flags.items():
        for name, value in values.items():
            kept = getattr(getattr(settings, group), name)
            wanted = tuple(value) if isinstance(value, list) else value
            if value is not None and wanted != kept:
                raise SettingsError(
                    f"{file.parent} has {group}.{name} = {_shown(kept)}, not {_shown(value)}",
                    advice=f"choose another --workspace, or change {name} in [{group}] of {file} and run "
                    "`convcast preprocess` into a new dataset",
                )


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
