"""Write docs/settings.md and docs/commands.md from the settings and the `--help` of the program, and the gallery.

`python docs/generate.py`; with `--run` it also runs the notebook and draws the gallery's maps, which takes a minute.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_args

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from convcast.cli.common.session import COMMON
from convcast.cli.main import app
from convcast.settings import Settings
from convcast.settings.load import PRESETS, load_settings
from convcast.settings.template import meanings

HEADER = """\
# Settings

To change a setting, use one of these; an earlier one overrides a later one:

1. a flag: `--set training.batch=8`, for every setting;
2. an environment variable: `CONVCAST_TRAINING__BATCH=8`;
3. the workspace's `convcast.toml`: `[training]`, `batch = 8`;
4. the preset.

An unknown name is refused with a suggestion. The settings in force are saved, with their hash, beside everything they
produce. The values below are those of phase 1, with demo's and phase 2's where they differ.
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


def by_preset(values: dict[str, str]) -> str:
    """The value of phase 1, then those of the presets that have another."""
    others = [f"{preset} {value}" for preset, value in values.items() if value != values["phase1"]]
    return values["phase1"] + (f" ({', '.join(others)})" if others else "")


def choices(field: FieldInfo, meaning: str) -> str:
    """A sentence with the permitted values, unless the meaning names them all."""
    names = [str(choice) for choice in get_args(field.annotation) if isinstance(choice, str)]
    named = all(re.search(rf"\b{re.escape(name)}\b", meaning) for name in names)
    return "" if named else f" One of {', '.join(names)}."


COMMANDS_HEADER = """\
# Commands

Results go to stdout, as a table or, with `--json`, as exactly one JSON object; progress and logs go to stderr. Times
are UTC (`2024-05-06T21` or `2024050621`), ranges `start/end` or `start/end/6h` with both ends, members `50`, `0-49` or
`3,17`, leads `1,3,6`. [Troubleshooting](troubleshooting.md) lists the exit codes; `convcast <verb> --help` says more.
"""


def commands_page() -> str:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    lines = [
        COMMANDS_HEADER,
        "## Common options",
        "",
        "Every verb that lists them in its `--help` takes them.",
        "",
    ]
    shared = {option.name: option for command in commands.values() for option in command.params if is_common(option)}
    lines += options_list(list(shared.values()))
    described: dict[str, str] = {}
    for name, command in commands.items():
        lines += ["", f"## convcast {name}", "", escaped(summary(command.help or "")), ""]
        for line in options_list([option for option in command.params if not is_common(option)]):
            earlier = name if ": As for" in line else described.setdefault(line, name)
            lines.append(line if earlier == name else f"{line.split(': ')[0]}: As for `convcast {earlier}`.")
    return "\n".join(lines) + "\n"


def summary(text: str) -> str:
    """The first paragraph of a help text."""
    return inspect.cleandoc(text).split("\n\n")[0]


def escaped(text: str) -> str:
    """Text whose `<name>` is no tag of HTML."""
    return text.replace("<", "&lt;")


def is_common(option: Any) -> bool:
    return getattr(option, "rich_help_panel", None) == COMMON


def options_list(options: list[Any]) -> list[str]:
    lines = []
    for option in options:
        names = [f"{name} {option.metavar}" if option.metavar else name for name in option.opts if name.startswith("-")]
        text = escaped(" ".join((option.help or "").split()))
        default = option.default
        if default not in (None, False, ()) and not callable(default):
            text += f" Default: `{default}`."
        lines.append(
            f"- {', '.join(f'`{name}`' for name in names or [option.name])}: {text.strip()}".removesuffix(": ")
        )
    return lines or ["It has no options of its own."]


def settings_page() -> str:
    resolved = {preset: load_settings(preset=preset) for preset in PRESETS}
    lines = [HEADER]
    for name, group in Settings.model_fields.items():
        if not (isinstance(group.annotation, type) and issubclass(group.annotation, BaseModel)):
            continue
        lines += [f"## {name}", "", (group.annotation.__doc__ or "").strip(), ""]
        docstrings = meanings(group.annotation)
        for key, field in group.annotation.model_fields.items():
            values = {preset: show(getattr(getattr(resolved[preset], name), key)) for preset in PRESETS}
            meaning = docstrings.get(key, "")
            meaning += choices(field, meaning)
            lines.append(f"- `{key}={by_preset(values)}`: {meaning.strip()}")
        lines.append("")
    return "\n".join(lines)


sys.path.insert(0, str(Path(__file__).parent))
from gallery import PICTURES, draw_gallery, gallery_page  # noqa: E402
from notebook import write_notebook  # noqa: E402

PAGES = {"settings.md": settings_page, "commands.md": commands_page, "gallery.md": gallery_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        Path(__file__).with_name(name).write_text(page())
        sys.stderr.write(f"wrote docs/{name}\n")
    if "--run" in sys.argv[1:]:
        draw_gallery(list(PICTURES), Path(__file__).with_name("images"))
        write_notebook()
