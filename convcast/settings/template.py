"""A new workspace's settings file, with every setting, its meaning and its default as comments."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from convcast.settings.load import load_settings
from convcast.settings.schema import Settings

WIDTH = 100
"""Maximum length of a comment."""
HEADER = """\
# Settings of this convcast workspace. A flag or a CONVCAST_* variable overrides what stands here; what is commented out
# comes from the preset, with the value shown.
preset = {preset}
"""


def settings_text(preset: str, tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a settings file with all settings, of which only those of `tables` are set.

    Args:
        preset: Name of the preset.
        tables: Values that are set, by group and name.

    Raises:
        SettingsError: A name or a value is not valid.
    """
    resolved = load_settings(flags=tables, preset=preset).model_dump(mode="json", exclude={"preset"})
    lines = [HEADER.format(preset=json.dumps(preset))]
    for group, field in Settings.model_fields.items():
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            continue
        lines += [f"[{group}]"]
        described = meanings(field.annotation)
        for name, value in resolved[group].items():
            lines += textwrap.wrap(described.get(name, ""), WIDTH, initial_indent="# ", subsequent_indent="# ")
            chosen = name in tables.get(group, {})
            shown = _toml(value)
            lines.append(f"{name} = {shown}" if chosen and shown is not None else f"# {name} = {shown or ''}".rstrip())
        lines.append("")
    return "\n".join(lines)


def meanings(group: type[BaseModel]) -> dict[str, str]:
    """Return the docstring of each setting, from the source, since pydantic would read it at every start."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(group))).body
    assert isinstance(definition, ast.ClassDef)
    return {
        setting.target.id: " ".join(text.value.value.split())
        for setting, text in pairwise(definition.body)
        if isinstance(setting, ast.AnnAssign)
        and isinstance(setting.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def _toml(value: Any) -> str | None:
    """Return a value as TOML, or None for one that is not set or is a table."""
    if value is None or isinstance(value, dict):
        return None
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return json.dumps(value)
