from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import laboratory
import numpy as np
import pytest

from convcast.archive import Archive, FetchOutcome, fetch, open_sources
from convcast.archive.simulated.server import serve
from convcast.archive.web import http
from convcast.settings.load import load_settings
from convcast.workspace import Workspace


@pytest.fixture(scope="session")
def bucket(tmp_path_factory):
    """Four hours of the HRRR bucket."""
    root = tmp_path_factory.mktemp("bucket")
    for hour in laboratory.HOURS:
        laboratory.publish(root, hour)
    return root


@dataclass
class Run:
    """Result of a run of fetch: what it reported, and the archive."""

    outcomes: list[FetchOutcome]
    archive: Archive
    scripts: list[laboratory.Script]

    @property
    def outcome(self):
        (outcome,) = self.outcomes
        return outcome

    @property
    def files(self):
        return {
            path.relative_to(self.archive.root).as_posix() for path in self.archive.root.rglob("*") if path.is_file()
        }

    def data(self, hour=laboratory.HOUR):
        return self.archive.path(hour, 0).read_bytes()


@pytest.fixture
def run(bucket, tmp_path, monkeypatch):
    """Fetch hours from servers of the bucket, one for each script of rules."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def run(
        *scripts,
        hours=(laboratory.HOUR,),
        root=bucket,
        age=1000,
        variables=laboratory.VARIABLES,
        user="",
        static=True,
        **settings,
    ):
        settings = load_settings(
            flags={"archive": {"retries": 2, "read_timeout": 0.3, "connect_timeout": 2, "workers": 2} | settings}
        )
        archive = Archive(tmp_path / "archive")
        made = [laboratory.Script(list(rules)) for rules in scripts or [[]]]
        with ExitStack() as stack:
            urls = [stack.enter_context(serve(root, handler=laboratory.faulty(script))).url for script in made]
            urls = [url.replace("//", f"//{user}") for url in urls]
            sources = stack.enter_context(open_sources(urls, workspace=Workspace(tmp_path), settings=settings))
            now = max(hours) + np.timedelta64(age, "h")
            options = {"variables": variables, "lead": 0, "settings": settings.archive, "now": now, "static": static}
            outcomes = list(fetch(archive, sources, list(hours), **options))
        return Run(outcomes, archive, made)

    return run
