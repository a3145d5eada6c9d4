"""A web server for a folder in the layout of the publisher's bucket: byte ranges, entity tags, lists of objects."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

Publish = Callable[[str], None]
"""Called with the path of each request, or the prefix of a list, before files are looked up, to make them on demand."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Server(ThreadingHTTPServer):
    """Serves the files under `root` on a free port, for this machine only."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # the default of 5 drops connections when a pool of workers opens them at once

    def __init__(self, root: Path, handler: type[Handler], publish: Publish | None = None) -> None:
        """Open the server on a free port.

        Args:
            root: The folder.
            handler: Class that answers requests.
            publish: Makes files on demand.
        """
        super().__init__(("127.0.0.1", 0), handler)
        self.root = root.resolve()
        self.publish = publish

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 60

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if query.get("list-type") == ["2"]:
            return self.respond(
                200, self.list_objects(query.get("prefix", [""])[0]), {"Content-Type": "application/xml"}
            )
        path = self.find()
        if path is None:
            return self.respond(404, b"not there\n")
        data, headers = self.load(path), {"ETag": self.etag(path)}
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None:
            return self.respond(200, data, headers)
        first, last = int(match[1]), min(int(match[2] or len(data)), len(data) - 1)
        if first > last:
            return self.respond(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.respond(206, data[first : last + 1], headers)

    def list_objects(self, prefix: str) -> bytes:
        """Return the objects whose names begin with `prefix`, as S3's ListObjectsV2 lists them."""
        server = cast(Server, self.server)
        if server.publish is not None:
            server.publish(prefix)
        folder = (server.root / prefix).parent
        found = sorted(folder.glob("*")) if folder.resolve().is_relative_to(server.root) else []
        names = {path.relative_to(server.root).as_posix(): path for path in found if path.is_file()}
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{path.stat().st_size}</Size></Contents>"
            for name, path in names.items()
            if name.startswith(prefix)
        )
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>{entries}</ListBucketResult>'.encode()

    def find(self) -> Path | None:
        """Return the requested file, after publishing it if needed; None if there is no such file under the root."""
        server = cast(Server, self.server)
        name = self.path.split("?")[0].lstrip("/")
        if server.publish is not None:
            server.publish(name)
        path = (server.root / name).resolve()
        return path if path.is_file() and path.is_relative_to(server.root) else None

    def load(self, path: Path) -> bytes:
        return path.read_bytes()

    def etag(self, path: Path) -> str:
        status = path.stat()
        return f'"{status.st_size:x}-{status.st_mtime_ns:x}"'

    def respond(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fields = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(body)),
            "Accept-Ranges": "bytes",
        }
        for name, value in (fields | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  named by the standard library
        """Log nothing."""


@contextmanager
def serve(root: Path, *, handler: type[Handler] = Handler, publish: Publish | None = None) -> Iterator[Server]:
    """Run a server until the end of the block.

    The arguments are those of `Server`.
    """
    server = Server(root, handler, publish)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
