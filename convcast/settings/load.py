"""The settings in force, from flags, environment variables, the workspace's convcast.toml and a preset."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsError as PydanticSettingsError,
    TomlConfigSettingsSource,
)

from convcast.errors import SettingsError
from convcast.notation import without_credentials
from convcast.settings.schema import ENVIRONMENT_PREFIX, Settings

PRESETS = ("demo", "phase1", "phase2")
NOT_SETTINGS = {"CONVCAST_WORKSPACE"}
"""Environment variables with the prefix that are not settings; the command line reads them."""


def load_settings(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, *, preset: str | None = None
) -> Settings:
    """Load the settings from flags, environment variables, a TOML file and a preset.

    Args:
        file: TOML file of the workspace.
        flags: Settings from the command line, as a nested table; they override all others.
        preset: Preset that overrides the one named by flags, variable or file.

    Raises:
        SettingsError: The file is unreadable, a name is unknown or a value is out of range.
    """
    _refuse_unknown_variables()
    table = _read_toml(file) if file else {}
    chosen = (
        preset
        or (flags or {}).get("preset")
        or os.environ.get(ENVIRONMENT_PREFIX + "PRESET")
        or table.get("preset", "phase1")
    )
    if chosen not in PRESETS:
        raise SettingsError(f"there is no preset {chosen!r}", advice=f"choose from {' '.join(PRESETS)}")
    defaults = files("convcast.settings") / "presets" / f"{chosen}.toml"

    class Resolved(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            tables = [file] if file else []
            return (
                init_settings,
                env_settings,
                *(TomlConfigSettingsSource(settings_cls, path) for path in [*tables, Path(str(defaults))]),
            )

    try:
        return Resolved(**{**(flags or {}), "preset": chosen})
    except ValidationError as error:
        raise _explain(error, file) from None
    except PydanticSettingsError as error:
        raise SettingsError(f"a {ENVIRONMENT_PREFIX}* variable cannot be read: {error}") from None


def nested(assignments: list[str]) -> dict[str, Any]:
    """Convert `group.name=value` flags, with values in TOML notation or as bare words, to a nested table.

    Raises:
        SettingsError: A text is not an assignment.
    """
    table: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            shown = without_credentials(repr(assignment))
            raise SettingsError(f"{shown} is not group.name=value", advice="try --set training.batch=8")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        group = table
        *parents, name = path.strip().split(".")
        for parent in parents:
            group = group.setdefault(parent, {})
        group[name] = value
    return table


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not readable TOML: {error}", advice=f"correct {path}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def _known(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the settings in this group."""
    model: type[BaseModel] = Settings
    for name in path:
        if name.isdecimal():  # of a list
            continue
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        inner = next(iter(get_args(inner)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return tuple(model.model_fields)


def _suggestion(path: tuple[str, ...]) -> str:
    *group, name = path
    known = _known(tuple(group))
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {'.'.join([*group, close[0]])}?"
    return f"{'.'.join(group) or 'the top level'} has {' '.join(known)}"


def _explain(error: ValidationError, file: Path | None) -> SettingsError:
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"])
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        return SettingsError(f"there is no setting {name!r}", advice=_suggestion(path))
    where = f" (see {file})" if file else ""
    reason = first["msg"].removeprefix("Value error, ")
    if path[-1] == "webhook":
        return SettingsError(f"{name} cannot be used: {reason}{where}")
    return SettingsError(f"{name} = {without_credentials(repr(first['input']))} cannot be: {reason}{where}")


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        path = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if path[-1] not in _known(path[:-1]):
            raise SettingsError(f"the variable {variable} is not a setting", advice=_suggestion(path))
