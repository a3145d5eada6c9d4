from __future__ import annotations

import pytest
import requests

from convcast.archive.simulated.server import serve

DATA = bytes(range(256)) * 4


@pytest.fixture
def server(tmp_path):
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/file.bin").write_bytes(DATA)
    (tmp_path / "secret").write_text("not served")
    with serve(tmp_path / "bucket") as server:
        yield server


@pytest.fixture
def get(server):
    with requests.Session() as session:
        session.trust_env = False

        def get(path="/file.bin", method="GET", **headers):
            return session.request(method, server.url + path, headers=headers, timeout=5)

        yield get


def test_whole_file(get):
    response = get()
    assert (response.status_code, response.content) == (200, DATA)


@pytest.mark.parametrize(
    ("asked", "first", "last"), [("0-0", 0, 0), ("10-19", 10, 19), ("1000-", 1000, 1023), ("1000-5000", 1000, 1023)]
)
def test_range(get, asked, first, last):
    response = get(Range=f"bytes={asked}")
    assert (response.status_code, response.headers["Content-Range"]) == (206, f"bytes {first}-{last}/1024")
    assert response.content == DATA[first : last + 1]


def test_range_beyond_the_end(get):
    response = get(Range="bytes=1024-1030")
    assert (response.status_code, response.headers["Content-Range"]) == (416, "bytes */1024")


def test_head_has_the_length_and_no_body(get):
    response = get(method="HEAD")
    assert (response.status_code, response.headers["Content-Length"], response.content) == (200, "1024", b"")


@pytest.mark.parametrize("path", ["/nowhere", "/", "/../secret", "/%2e%2e/secret"])
def test_paths_outside_the_folder_are_not_served(get, path):
    assert get(path).status_code == 404


def test_entity_tag_changes_with_the_file(get, tmp_path):
    before = get().headers["ETag"]
    (tmp_path / "bucket/file.bin").write_bytes(DATA[:100])
    assert get().headers["ETag"] != before


def test_bucket_fills_as_it_is_asked(tmp_path):
    def publish(name):
        (tmp_path / name).write_bytes(b"new")

    with serve(tmp_path, publish=publish) as server, requests.Session() as session:
        session.trust_env = False
        assert session.get(f"{server.url}/asked-for", timeout=5).content == b"new"
