"""Measure the fetch of twelve hours over a slow line: convcast beside FastHerbie, for the same files and server.

    python benchmarks/fetch.py --round-trip 40 --workers 8 --repeats 3

Files are of HRRR's size and have its five ranges for the seven fields. Every request, and every new connection, waits
one round trip. convcast checks, hashes, syncs and records the messages; Herbie writes them unchecked. obstore is run if
it is installed, as a bound: it only transfers the same ranges. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

HOURS = np.arange("2024-05-06T00", "2024-05-06T12", dtype="datetime64[h]")
SEARCH = ":REFC:entire atmosphere:|:(?:TMP|DPT):2 m above|:[UV]GRD:10 m above|:(?:CAPE|CIN):surface"


def publish(root: Path, scale: int = 1) -> int:
    """Publish a bucket of these hours, a `scale`th of the domain wide; return the bytes of the seven fields."""
    from convcast import grib
    from convcast.archive import locations
    from convcast.grid import CONUS, Grid
    from convcast.variables import FIELDS, STATIC, GribKey

    grid = Grid(CONUS.ny // scale, CONUS.nx // scale)
    rows: list[tuple[str, str, GribKey, bool]] = []
    filler = iter(range(100, 120))
    for name, variable in (FIELDS | STATIC).items():
        if name not in ("v10", "cin"):  # these are adjacent in HRRR's files; all others are apart
            rows.append(("TMP", f"{next(filler)} mb", GribKey(0, 0, 0, 100, len(rows)), False))
        rows.append((variable.index_name, variable.index_level, variable.grib, name in FIELDS))
    generator = np.random.default_rng(0)
    smooth = np.cumsum(generator.integers(-3, 4, grid.shape), axis=1) / 16
    rough = generator.integers(0, 16, grid.shape) / 16
    messages = [
        grib.encode(280 + smooth + rough, key=key, grid=grid, init=HOURS[0], lead_hours=0, simulated=False)
        for _, _, key, _ in rows
    ]
    for hour in HOURS:
        path = root / locations.archive_path(locations.hrrr(hour, 0))
        path.parent.mkdir(parents=True, exist_ok=True)
        text, offset = "", 0
        for number, ((name, level, _, _), message) in enumerate(zip(rows, messages, strict=True), 1):
            text += f"{number}:{offset}:d={str(hour).replace('-', '').replace('T', '')}:{name}:{level}:anl:\n"
            offset += len(message)
        dated = (m[:32] + bytes([int(str(hour)[-2:])]) + m[33:] for m in messages)  # the hour, in section 1
        path.write_bytes(b"".join(dated))
        path.with_name(path.name + ".idx").write_text(text)
    return len(HOURS) * sum(len(m) for m, (_, _, _, is_field) in zip(messages, rows, strict=True) if is_field)


def with_convcast(url: str, root: Path, workers: int) -> None:
    from convcast.archive import Archive, fetch, open_sources
    from convcast.settings.load import load_settings
    from convcast.variables import FIELDS
    from convcast.workspace import Workspace

    settings = load_settings(flags={"archive": {"workers": workers}})
    with open_sources([url], workspace=Workspace(root), settings=settings) as sources:
        options: dict[str, Any] = {"variables": tuple(FIELDS.values()), "lead": 0, "settings": settings.archive}
        outcomes = list(fetch(Archive(root / "archive"), sources, HOURS, now=np.datetime64("2026-01-01"), **options))
    assert [outcome.status for outcome in outcomes] == ["ok"] * len(HOURS), outcomes


def with_herbie(url: str, root: Path, workers: int) -> None:
    import herbie.models
    from herbie import FastHerbie

    class Mirror:
        def template(self) -> None:
            self.DESCRIPTION, self.DETAILS, self.PRODUCTS = "", {}, {"sfc": ""}
            name = f"hrrr.t{self.date:%H}z.wrfsfcf{self.fxx:02d}.grib2"
            self.SOURCES = {"mirror": f"{url}/hrrr.{self.date:%Y%m%d}/conus/{name}"}
            self.LOCALFILE = name

    herbie.models.convcast_mirror = Mirror
    times = [str(hour) for hour in HOURS]
    options = {"model": "convcast_mirror", "priority": ["mirror"], "save_dir": root, "max_threads": workers}
    files = FastHerbie(times, fxx=[0], **options).download(SEARCH, max_threads=workers)
    assert len(files) == len(HOURS), files


def with_obstore(url: str, root: Path, workers: int) -> None:
    import obstore
    from obstore.store import HTTPStore

    from convcast.archive import locations
    from convcast.archive.messages.index import merge, parse, select
    from convcast.archive.messages.spec import fields
    from convcast.variables import FIELDS

    store = HTTPStore.from_url(url, client_options={"allow_http": True})

    def bring(hour: np.datetime64) -> None:
        name = str(locations.archive_path(locations.hrrr(hour, 0)))
        text = bytes(obstore.get(store, name + ".idx").bytes()).decode()
        spans, _ = select(parse(text), fields(tuple(FIELDS.values())), init=hour, lead=0)
        ranges = merge(spans)
        parts = obstore.get_ranges(store, name, starts=[a for a, _ in ranges], ends=[b for _, b in ranges])
        (root / Path(name).name).write_bytes(b"".join(bytes(part) for part in parts))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(bring, HOURS))


CONTENDERS = {"convcast": with_convcast, "FastHerbie": with_herbie, "obstore, bytes alone": with_obstore}


def peak() -> float:
    """Return the peak of resident memory so far, MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def run(name: str, url: str, workers: int) -> None:
    """Run one contender in this process; print seconds, and the memory that it took beyond its imports."""
    import convcast.grib  # pyproj before ecCodes, for all

    with tempfile.TemporaryDirectory() as folder:
        if name != "obstore, bytes alone":
            import herbie.fast  # noqa: F401
        import convcast.archive  # noqa: F401

        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on (proc(5))
        before = peak()
        begun = time.perf_counter()
        CONTENDERS[name](url, Path(folder), workers)
        seconds = time.perf_counter() - begun
        grown = peak() - before
    print("RESULT", json.dumps({"seconds": seconds, "grown": grown}))


def measure(root: Path, names: list[str], arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return seconds (minimum of the repeats), memory growth in MB (maximum) and bytes sent in a run, by contender."""
    from convcast.archive.simulated.server import Handler, serve

    sent, lock = [0], threading.Lock()
    pause = arguments.round_trip / 1000

    class Distant(Handler):
        def setup(self) -> None:
            time.sleep(pause)
            super().setup()

        def respond(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            time.sleep(pause)
            with lock:
                sent[0] += len(body) if self.command == "GET" else 0
            super().respond(status, body, headers)

    best: dict[str, dict[str, float]] = {}
    with serve(root, handler=Distant) as server:
        for _ in range(arguments.repeats):
            for name in names:
                sent[0] = 0
                command = [sys.executable, __file__, "--contender", name, "--url", server.url]
                command += ["--workers", str(arguments.workers)]
                done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                found = json.loads(done.split("RESULT", 1)[1])
                last = best.setdefault(name, {"seconds": np.inf, "grown": 0.0})
                last["seconds"] = min(last["seconds"], found["seconds"])
                last["grown"] = max(last["grown"], found["grown"])
                last["bytes"] = sent[0]
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--round-trip", type=float, default=40.0, help="milliseconds")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        run(arguments.contender, arguments.url, arguments.workers)
        return
    names = [name for name in CONTENDERS if find_spec(name.split(",")[0].lower().replace("fastherbie", "herbie"))]
    with tempfile.TemporaryDirectory() as folder:
        fields = publish(Path(folder) / "conus")
        small = publish(Path(folder) / "quarter", scale=4)
        best = measure(Path(folder) / "conus", names, arguments)
        quarter = measure(Path(folder) / "quarter", ["convcast"], arguments)["convcast"]
    line = f"{arguments.round_trip:g} ms, {arguments.workers} workers, least of {arguments.repeats}"
    print(f"{len(HOURS)} files, {fields / 1e6:.0f} MB of fields, {line}\n")
    print("| | s | MB/s | bytes over those of the fields | memory beyond imports, MB |")
    print("|---|---|---|---|---|")
    for name, found in best.items():
        rate, excess = fields / found["seconds"] / 1e6, found["bytes"] / fields
        print(f"| {name} | {found['seconds']:.2f} | {rate:.0f} | {excess:.3f} | {found['grown']:.0f} |")
    print(f"\nFiles of a sixteenth ({small / 1e6:.0f} MB of fields): {quarter['grown']:.0f} MB of memory.")


if __name__ == "__main__":
    main()
