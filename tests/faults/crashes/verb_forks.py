"""Program that runs verbs as forks of itself, after importing everything, so that each takes a fraction of a second.

Each line on stdin is a request in JSON (the fields of `Request`), each line on stdout its answer: the exit code and
what the verb printed. A cycle's stages are forks too.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import injector
from injector import Injector, Point
from states import States
from unpainted import nothing_drawn

LONGEST = 600
"""Seconds after which a verb counts as hanging."""


@dataclass
class Request:
    words: list[str]
    """Words of the command without the program's name, or `look` and two folders: see `look`."""
    root: str
    counts: str
    states: str | None = None
    """Folder for states; a trace names each point, with the state before it."""
    every: bool = False
    """Store the state before every point, rather than before the first of each kind, as a state takes milliseconds."""
    point: tuple[str, int] | None = None
    errno: int | None = None
    signal: int | None = None


def visitor(request: Request) -> Any:
    if request.states is not None:
        return tracer(request)
    if request.point is None:
        return None
    point = Point(*request.point)
    if request.errno is not None:
        return injector.failing(point, request.errno)
    return injector.signalled(point, request.signal or signal.SIGKILL)


def tracer(request: Request) -> Any:
    states, root = States(Path(request.states or "")), Path(request.root)

    def visit(point: Point, path: str) -> None:
        state = states.keep(root) if request.every or point.number == 0 else None
        line = json.dumps({"kind": point.kind, "number": point.number, "path": path, "state": state})
        with open(f"{request.counts}.trace", "a") as file:
            file.write(line + "\n")

    return visit


def run_here(words: list[str]) -> int:
    """Run the program in this process, as its entry point does, and return its exit code."""
    from convcast.cli.main import run

    sys.argv = ["convcast", *words]
    try:
        run()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:  # noqa: BLE001  as the interpreter: a traceback and 1
        traceback.print_exc()
        return 1
    return 0


def look(root: Path, expected: Path) -> int:
    """Run `status`, compare complete files with those of an undisturbed run, and return an exit code."""
    from readers import compare

    if (root / "convcast.toml").exists():
        code = run_here(["status", "--json", "-w", str(root)])
        if code != 0:
            sys.stdout.write(f"status ends with {code}\n")
            return code
    return compare(root, expected)


def forked(work: Any, *, stdout: int, stderr: int) -> int:
    """Fork a process that does the work, which returns an exit code; return the process id."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(stdout, 1)
            os.dup2(stderr, 2)
            sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115  ends with the process
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            code = work()
            sys.stdout.flush()
        except BaseException:  # noqa: BLE001  nothing may go on in the fork
            traceback.print_exc()
        finally:
            threading._shutdown()  # as the interpreter does: threads finish their work
            os._exit(code)
    return child


def forked_stage(words: Any, *, seconds: float, **_: Any) -> Any:
    """Replace convcast.operations.stages.run by a fork, without a deadline."""
    from convcast.operations.stages import ProcessResult

    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = forked(lambda: run_here(list(words)), stdout=out.fileno(), stderr=err.fileno())
        try:
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except KeyboardInterrupt:  # the stage has been told to end as well
            os.waitpid(child, 0)
            raise
        for stream in (out, err):
            stream.seek(0)
        text, said = out.read(), err.read()
    sys.stderr.write(said)
    result = json.loads(text.splitlines()[-1]) if text.strip() else {}
    return ProcessResult(code, time.monotonic() - begun, result, said[-400:])


def answer(request: Request) -> dict[str, Any]:
    visit = visitor(request)

    def work() -> int:
        os.setsid()
        os.close(alive)
        if visit is not None:
            Injector(Path(request.root), Path(request.counts), visit).arm()
        if request.words[0] == "look":
            return look(*map(Path, request.words[1:]))
        return run_here(request.words)

    alive, held = os.pipe()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = forked(work, stdout=out.fileno(), stderr=err.fileno())
        os.close(held)
        hung = not select.select([alive], [], [], LONGEST)[0]
        os.close(alive)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, ended, used = os.wait4(child, 0)
        for stream in (out, err):
            stream.seek(0)
        said = {"out": out.read(), "err": err.read()}
    cpu = round(used.ru_utime + used.ru_stime, 2)
    return {"code": os.waitstatus_to_exitcode(ended), "hung": hung, "cpu": cpu, **said}


def prepare() -> None:
    """Import modules that verbs import late, and remove differences between two runs of the same work."""
    import typer.main
    import zarr

    import convcast
    from convcast.archive import locations
    from convcast.cli.main import app
    from convcast.model.features import correction
    from convcast.operations import stages

    # One thread writes at a time, so that each run meets the same points in the same order.
    zarr.config.set({"async.concurrency": 1, "threading.max_workers": 1})
    locations.prepare()
    correction.MAX_STEPS = 2  # a fit of many steps would only take time
    stages.run = forked_stage
    ours = (module.name for module in pkgutil.walk_packages(convcast.__path__, "convcast."))
    others = ["cv2", "dask.array", "distributed", "filelock", "jinja2", "netCDF4", "plotille", "tensorboardX"]
    for name in [*(name for name in ours if not name.endswith("__main__")), *others]:
        importlib.import_module(name)
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app)
    warm_up()
    gc.freeze()  # else the garbage collector of each fork would copy the pages of imported modules


def warm_up() -> None:
    """Compile, and read the program's own source, which each process would otherwise do in seconds."""
    import numpy as np
    import properscoring
    import torch

    from convcast.metrics.kernels import crps_points
    from convcast.metrics.spatial import Scales
    from convcast.metrics.sums import score_field
    from convcast.variables import REFC
    from convcast.verification.evaluate import COMPUTED_BY
    from convcast.verification.results.source_digest import source_digest

    source_digest(*COMPUTED_BY)
    with torch.device("meta"):
        torch.nn.init.normal_(torch.empty(1))
    few = np.ones((2, 9, 9), np.float32)
    properscoring.crps_ensemble(few[0, 0].astype(float), few[:, 0].T.astype(float))
    crps_points(few[:, 0], few[0, 0], "fair")
    for periodic in (False, True):
        score_field(few, few[0], REFC, scales=Scales((3,), periodic))


if __name__ == "__main__":
    prepare()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    with nothing_drawn():  # drawing would take most of the time, and is tested elsewhere
        for line in sys.stdin:
            sys.stdout.write(json.dumps(answer(Request(**json.loads(line)))) + "\n")
            sys.stdout.flush()
