"""Write docs/settings.md from the settings' own classes, so that the two cannot disagree: `python docs/generate.py`."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from itertools import pairwise
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from convcast.settings import PRESETS, Settings, load_settings

PAGE = Path(__file__).with_name("settings.md")

HEADER = """\
# Settings

Made from `convcast/settings.py` by `python docs/generate.py`; a test keeps it current.

What counts, first to last: a flag (`--set training.batch=8` reaches every setting), a variable
(`CONVCAST_TRAINING__BATCH=8`), the workspace's `convcast.toml` (`[training]`, `batch = 8`), the preset. An unknown
name is refused with a suggestion. The settings in force are saved, with their hash, beside everything they produce.
"""


def show(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(show(item) for item in value) + "]"
    if isinstance(value, BaseModel):
        value = dict(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {show(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def kind(field: FieldInfo) -> str:
    choices = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    return f" One of {', '.join(choices)}." if choices else ""


def meanings(group: type[BaseModel]) -> dict[str, str]:
    """What stands under each setting in the source; pydantic would read it at every start of the program."""
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


def page() -> str:
    resolved = {preset: load_settings(preset=preset) for preset in PRESETS}
    lines = [HEADER]
    for name, group in Settings.model_fields.items():
        if not (isinstance(group.annotation, type) and issubclass(group.annotation, BaseModel)):
            continue
        lines += [f"## {name}", "", (group.annotation.__doc__ or "").strip(), ""]
        lines += [f"| name | {' | '.join(PRESETS)} | meaning |", "|---" * (len(PRESETS) + 2) + "|"]
        said = meanings(group.annotation)
        for key, field in group.annotation.model_fields.items():
            values = " | ".join(show(getattr(getattr(resolved[preset], name), key)) for preset in PRESETS)
            meaning = said.get(key, "") + kind(field)
            lines.append(f"| `{key}` | {values} | {meaning.strip()} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stderr.write(f"wrote {PAGE}\n")
