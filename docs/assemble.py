"""What of the site lies outside docs/: README, CONTRIBUTING, CHANGELOG and examples/, each kept in one place.

mkdocs calls these functions (https://www.mkdocs.org/user-guide/configuration/#hooks). Links are written as they work in
the repository, and are turned here to where their targets lie in the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Places in the repository, and in the site."""
FOLDERS = ("examples", "LICENSE")
"""Brought into the site as they are."""
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out of the navigation what is not written."""
    there = {*PAGES.values(), *(path.name for path in (ROOT / "docs").glob("*.md"))}
    config.nav = [entry for entry in config.nav or [] if set(entry.values()) <= there]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for path in sorted(path for folder in FOLDERS for path in [ROOT / folder, *(ROOT / folder).rglob("*")]):
        if path.is_file():
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    sources = {place: source for source, place in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: link[1] + _in_site(link[2], source, page.file.src_uri) + link[3], markdown)


def on_post_template(output: str, template_name: str, **_: Any) -> str:
    """No page for what is not found: without the address of the site, its own links would lead to another host."""
    return "" if template_name == "404.html" else output


def _in_site(link: str, source: str, place: str) -> str:
    """A link of the repository's file `source`, as the page at `place` of the site has it."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    there = PAGES.get(target, target.removeprefix("docs/"))
    return posixpath.relpath(there, posixpath.dirname(place) or ".")
