"""A small bucket of real GRIB2 files, and a server that fails as a script tells it to."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from convcast import grib
from convcast.archive.simulated.server import Handler
from convcast.grid import Grid
from convcast.variables import FIELDS, LAND, TERRAIN, GribKey

HOURS = np.arange("2024-05-06T18", "2024-05-06T22", dtype="datetime64[h]")
HOUR = HOURS[0]
GRID = Grid(12, 16, 300, 800)
VARIABLES = tuple(FIELDS.values())
NAMES = tuple(FIELDS)

ROWS = (
    ("REFC", "entire atmosphere", FIELDS["refc"].grib),
    ("HGT", "surface", TERRAIN.grib),
    ("TMP", "surface", GribKey(0, 0, 0, 1, 0)),
    *((v.index_name, v.index_level, v.grib) for v in VARIABLES[1:]),
    ("CAPE", "180-0 mb above ground", GribKey(0, 7, 6, 108, 18000)),
    ("LAND", "surface", LAND.grib),
)


def messages(init, *, simulated=False, rows=ROWS, salt=0) -> list[bytes]:
    """Make one message for each row; the values of all rows, hours and salts differ."""
    encoded = []
    for number, (_, _, key) in enumerate(rows):
        seed = [number, int(init.astype(int)), salt]
        values = 1 + np.random.default_rng(seed).integers(0, 200 + 40 * number, GRID.shape) / 16
        encoded.append(grib.encode(values, key=key, grid=GRID, init=init, lead_hours=0, simulated=simulated))
    return encoded


def index(init, encoded, *, rows=ROWS) -> str:
    cycle = str(init).replace("-", "").replace("T", "")
    lines, offset = [], 0
    for number, ((name, level, _), message) in enumerate(zip(rows, encoded, strict=True), 1):
        lines.append(f"{number}:{offset}:d={cycle}:{name}:{level}:anl:\n")
        offset += len(message)
    return "".join(lines)


def place(root: Path, init) -> Path:
    day, hour = str(init).replace("-", "").split("T")
    return root / f"hrrr.{day}/conus/hrrr.t{hour}z.wrfsfcf00.grib2"


def publish(root: Path, init, **options) -> None:
    path = place(root, init)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = messages(init, **options)
    path.write_bytes(b"".join(encoded))
    path.with_name(path.name + ".idx").write_text(index(init, encoded, rows=options.get("rows", ROWS)))


def subset(init, wanted=VARIABLES, **options) -> bytes:
    """Return the bytes that an archive file of this hour must have."""
    keys = {variable.grib for variable in wanted}
    rows = options.get("rows", ROWS)
    return b"".join(m for m, (_, _, key) in zip(messages(init, **options), rows, strict=True) if key in keys)


Answer = Callable[["FaultyHandler"], bool]
"""Function that may answer a request; it returns whether it did, and otherwise the ordinary answer follows."""


@dataclass
class Rule:
    """A fault for the first `times` requests of paths with this ending."""

    ending: str
    answer: Answer
    times: int = 10**9
    method: str = "GET"


@dataclass
class Script:
    rules: list[Rule] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    bytes_sent: int = 0
    credentials: list[str] = field(default_factory=list)
    """Authorization headers of all requests."""


class FaultyHandler(Handler):
    script: Script
    edit: Callable[[bytes], bytes] | None = None
    tag: str | None = None
    extra: dict[str, str] | None = None

    def answer(self) -> None:
        self.edit, self.tag, self.extra = None, None, None
        self.script.credentials += self.headers.get_all("Authorization", [])
        self.script.requests.append((self.command, self.path, self.headers.get("Range", "")))
        for rule in self.script.rules:
            if self.path.endswith(rule.ending) and self.command == rule.method and rule.times > 0:
                rule.times -= 1
                if rule.answer(self):
                    return
                break
        super().answer()

    def load(self, path: Path) -> bytes:
        data = super().load(path)
        return self.edit(data) if self.edit else data

    def etag(self, path: Path) -> str:
        return self.tag or super().etag(path)

    def respond(self, status, body, headers=None) -> None:
        self.script.bytes_sent += len(body) if self.command == "GET" else 0
        super().respond(status, body, (headers or {}) | (self.extra or {}))

    def hang_up(self) -> None:
        """Close the connection with a reset."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def faulty(script: Script) -> type[FaultyHandler]:
    return type("Scripted", (FaultyHandler,), {"script": script})


def status(code: int, **headers: str) -> Answer:
    def answer(handler):
        handler.respond(code, b"no\n", {name.replace("_", "-"): value for name, value in headers.items()})
        return True

    return answer


def reset(handler) -> bool:
    handler.hang_up()
    return True


def _begin(handler) -> bytes:
    """Send the head of the correct answer to a range request, and return the body that should follow."""
    first, last = (int(n) for n in handler.headers["Range"].removeprefix("bytes=").split("-"))
    data = handler.load(handler.find())
    handler.send_response(206)
    handler.send_header("Content-Length", str(last - first + 1))
    handler.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
    handler.end_headers()
    return data[first : last + 1]


def truncate(handler) -> bool:
    body = _begin(handler)
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    handler.close_connection = True
    return True


def break_off(handler) -> bool:
    body = _begin(handler)
    handler.wfile.write(body[: len(body) // 2])
    handler.hang_up()
    return True


def stall(handler) -> bool:
    body = _begin(handler)
    handler.wfile.write(body[: len(body) // 2])
    handler.wfile.flush()
    time.sleep(0.6)
    handler.hang_up()
    return True


def silent(handler) -> bool:
    time.sleep(0.6)
    handler.hang_up()
    return True


def drip(handler) -> bool:
    for byte in _begin(handler):
        try:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
        except OSError:
            break
        time.sleep(0.02)
    handler.close_connection = True
    return True


def slow(handler, pause=0.005) -> bool:
    """Send slowly, but not so slowly that it counts as stalled."""
    body = _begin(handler)
    for start in range(0, len(body), 128):
        handler.wfile.write(body[start : start + 128])
        handler.wfile.flush()
        time.sleep(pause)
    return True


def _until_gone(handler, pieces, pause: float) -> bool:
    """Send the pieces again and again until the client disconnects."""
    handler.close_connection = True
    try:
        while True:
            for piece in pieces:
                handler.wfile.write(piece)
                handler.wfile.flush()
                time.sleep(pause)
    except OSError:
        return True


def drip_headers(handler) -> bool:
    """Send a correct status line, then headers letter by letter without end."""
    handler.wfile.write(b"HTTP/1.1 206 Partial Content\r\n")
    return _until_gone(handler, [bytes([letter]) for letter in b"X-Cache: miss\r\n"], 0.02)


def drip_status(handler) -> bool:
    return _until_gone(handler, [b"H", b"T", b"T", b"P"], 0.02)


def mute(handler) -> bool:
    """Send nothing for as long as the client waits."""
    handler.close_connection = True
    handler.connection.recv(1)
    return True


def wait_for_ever(handler) -> bool:
    """Send `100 Continue` again and again, which restarts the client's wait for headers."""
    return _until_gone(handler, [b"HTTP/1.1 100 Continue\r\n\r\n"], 0.001)


def drip_chunk(handler) -> bool:
    """Send a chunked body in which the size of the first chunk has no end."""
    first, last = (int(n) for n in handler.headers["Range"].removeprefix("bytes=").split("-"))
    head = f"HTTP/1.1 206 P\r\nContent-Range: bytes {first}-{last}/99999999\r\nTransfer-Encoding: chunked\r\n\r\n5;"
    handler.wfile.write(head.encode())
    return _until_gone(handler, [b"x"], 0.02)


def endless_redirect(handler) -> bool:
    """Send a redirect with an endless body."""
    handler.wfile.write(b"HTTP/1.1 302 Found\r\nLocation: " + handler.path.encode() + b"?\r\n\r\n")
    return _until_gone(handler, [bytes(1 << 16)], 0)


def raw(data: bytes) -> Answer:
    """Send these bytes instead of an answer."""

    def answer(handler):
        handler.wfile.write(data)
        handler.wfile.flush()
        handler.close_connection = True
        return True

    return answer


def very_slow(handler) -> bool:
    return slow(handler, pause=0.2)


def ignore_range(handler) -> bool:
    handler.respond(200, handler.load(handler.find()))
    return True


def content_range(text: str | None) -> Answer:
    def answer(handler):
        handler.respond(206, b"x" * 10, {"Content-Range": text} if text else {})
        return True

    return answer


def misjudge(factor: float) -> Answer:
    """Send the right Content-Range with a body, and a Content-Length, of another length."""

    def answer(handler):
        asked = handler.headers["Range"].removeprefix("bytes=")
        first, last = (int(n) for n in asked.split("-"))
        size = handler.find().stat().st_size
        handler.respond(206, b"x" * int((last - first + 1) * factor), {"Content-Range": f"bytes {asked}/{size}"})
        return True

    return answer


def page(handler) -> bool:
    handler.respond(200, b"<html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
    return True


def redirect(to: str) -> Answer:
    def answer(handler):
        handler.respond(302, b"", {"Location": to + handler.path if to.startswith("http") else to})
        return True

    return answer


def edit(change: Callable[[bytes], bytes]) -> Answer:
    def answer(handler):
        handler.edit = change
        return False

    return answer


def lines(change: Callable[[list[str]], list[str]]) -> Answer:
    return edit(lambda data: "".join(change(data.decode().splitlines(keepends=True))).encode())


def tag(text: str) -> Answer:
    def answer(handler):
        handler.tag = text
        return False

    return answer


def headers(**fields: str) -> Answer:
    """Send the ordinary answer with these headers added or replaced."""

    def answer(handler):
        handler.extra = {name.replace("_", "-"): value for name, value in fields.items()}
        return False

    return answer
