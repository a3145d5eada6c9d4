from __future__ import annotations

import json
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from convcast.archive.failures import Transient
from convcast.archive.simulated.server import Handler, serve
from convcast.archive.web import http
from convcast.archive.web.azure import SharedAccess
from convcast.archive.web.http import Client
from convcast.settings.load import load_settings

FILE = "https://noaahrrr.blob.core.windows.net/hrrr/hrrr.20240506/conus/hrrr.t09z.wrfsfcf00.grib2"


class Signer(Handler):
    """Answers as the Planetary Computer does."""

    life = timedelta(hours=1)
    asked: list[str]
    body: str | None = None

    def answer(self):
        href = parse_qs(urlsplit(self.path).query)["href"][0]
        self.asked.append(href)
        end = (datetime.now(UTC) + self.life).isoformat().replace("+00:00", "Z")
        body = json.dumps({"msft:expiry": end, "href": f"{href}?sig=secret{len(self.asked)}"})
        self.respond(200, (self.body or body).encode(), {"Content-Type": "application/json"})


@pytest.fixture
def access(tmp_path, monkeypatch):
    """Return a function that makes a SharedAccess, and gives it with the list of its requests."""
    monkeypatch.setattr(http, "FIRST_WAIT", 0.001)

    def access(**options):
        handler = type("Signer", (Signer,), {"asked": [], **options})
        server = stack.enter_context(serve(tmp_path, handler=handler))
        client = Client(load_settings(flags={"archive": {"retries": 1}}).archive, direct=True)
        return SharedAccess(client, service=f"{server.url}/sign?href="), handler.asked

    with ExitStack() as stack:
        yield access


def test_one_signature_serves_all_files(access):
    sign, asked = access()
    assert [sign(FILE), sign(FILE + ".idx")] == [f"{FILE}?sig=secret1", f"{FILE}.idx?sig=secret1"]
    assert asked == [FILE]


def test_signature_is_replaced_before_it_ends(access):
    sign, asked = access(life=timedelta(minutes=4))
    assert [sign(FILE), sign(FILE)] == [f"{FILE}?sig=secret1", f"{FILE}?sig=secret2"]
    assert len(asked) == 2


@pytest.mark.parametrize("body", ["not json", "[]", '{"href": "https://a/b?x=1"}', '{"href": "https://a/b"}'])
def test_anything_else_is_no_access_for_now(access, body):
    sign, _ = access(body=body)
    with pytest.raises(Transient, match="no access to Azure"):
        sign(FILE)
