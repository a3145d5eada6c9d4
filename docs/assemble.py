"""Add README, CONTRIBUTING, SECURITY, CHANGELOG and examples/, which lie outside docs/, and the notebook to the site.

mkdocs calls these functions (https://www.mkdocs.org/user-guide/configuration/#hooks). Links are written as they work in
the repository; here they are turned to where their targets lie in the site.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
from notebook import notebook_page  # noqa: E402

PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
"""Paths of pages in the repository, and in the site."""
FOLDERS = ("examples", "packaging", "LICENSE")
"""Files and folders that are copied into the site as they are."""
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Drop pages that do not exist from the navigation."""
    existing = {*PAGES.values(), "notebook.md", *(path.name for path in (ROOT / "docs").glob("*.md"))}
    config.nav = [entry for entry in config.nav or [] if set(entry.values()) <= existing]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    page, pictures = notebook_page()
    for name, content in {"notebook.md": page, **pictures}.items():
        files.append(File.generated(config, name, content=content))
    for path in sorted(path for folder in FOLDERS for path in [ROOT / folder, *(ROOT / folder).rglob("*")]):
        if path.is_file():
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    sources = {page_path: source for source, page_path in PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    return LINK.sub(lambda link: link[1] + _in_site(link[2], source, page.file.src_uri) + link[3], markdown)


def on_post_template(output: str, template_name: str, **_: Any) -> str:
    """Write no 404 page: without the address of the site, its links would lead to another host."""
    return "" if template_name == "404.html" else output


def _in_site(link: str, source: str, page_path: str) -> str:
    """Turn a link of the repository's file `source` into one of the site's page at `page_path`."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    site_path = PAGES.get(target, target.removeprefix("docs/"))
    return posixpath.relpath(site_path, posixpath.dirname(page_path) or ".")
