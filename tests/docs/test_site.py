"""The site builds without a warning, loads nothing from elsewhere, and all links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
LOADING = {
    ("link", "href"),
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("form", "action"),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "site"
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "WARNING" not in finished.stderr
    return folder


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.names = [], [], set()
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if (tag, name) in LOADING and value:
                self.loads.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)
            elif name == "id":
                self.names.add(value)


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_there(pages, site):
    names = {path.name for path in pages}
    wanted = {path.stem for path in (ROOT / "docs").glob("*.md")} | {"index", "contributing", "security", "changelog"}
    assert {f"{name}.html" for name in wanted} <= names
    navigation = (site / "index.html").read_text()
    assert all(f'href="{name}.html"' in navigation for name in wanted - {"index"})


def test_nothing_is_loaded_from_another_host(pages, site):
    loads = [address for page in pages.values() for address in page.loads]
    assert loads
    assert [address for address in loads if urlsplit(address).netloc] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert [found for style in styles for found in re.findall(r"url\(\s*[\"']?(?:https?:)?//[^)]*", style)] == []


def test_every_link_of_the_site_leads_somewhere(pages, site):
    broken = []
    for path, page in pages.items():
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target.is_file() and target.is_relative_to(site)
            if not found or (parts.fragment and target in pages and parts.fragment not in pages[target].names):
                broken.append(f"{path.name}: {address}")
    assert broken == []


@pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.name)
def test_every_link_of_the_repository_leads_somewhere(text):
    links = [urlsplit(link) for link in LINK.findall(text.read_text())]
    paths = [link.path for link in links if not link.scheme and link.path]
    assert [path for path in paths if not (text.parent / path).exists()] == []
    assert [path for path in paths if not (text.parent / path).resolve().is_relative_to(ROOT)] == []
