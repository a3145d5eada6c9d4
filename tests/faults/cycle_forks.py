"""Program that runs cycles, and their stages, as forks of itself, so that a cycle takes a second: it imports only once.

Each line on stdin is a JSON object with `now`, the `count` of cycles and further `words` for their command lines.
`kill` makes it kill them: it has the number of a stage, the seconds after the stage began, and whether the stage is
killed too, as by a power cut. `full` is a number of files after which a process is told that the disk is full. The
answer on stdout is the exit codes of the cycles. Sampling and scoring are stand-ins that write files like the real
ones. Pictures are one pixel each.
"""

import contextlib
import errno
import gc
import importlib
import itertools
import json
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import xarray as xr
from unpainted import nothing_drawn

from convcast.archive import locations
from convcast.archive.web import http
from convcast.cli.main import app
from convcast.dataset import Dataset
from convcast.errors import ConvcastError, from_os_error
from convcast.files import PARTIAL, append_line, lock
from convcast.forecasts.store import EnsembleStore, ForecastDescription
from convcast.metrics.neighbourhood import count_near
from convcast.notation import HOUR, from_compact, parse_hour
from convcast.operations import inventory, stages
from convcast.operations.stages import ProcessResult
from convcast.settings.load import load_settings
from convcast.workspace import Workspace

PLACE = Workspace(Path(sys.argv[1]))
BEGUN = PLACE.root.with_name("begun.jsonl")
"""File with a line for each stage that a running cycle has begun."""
MEMBERS = 4
IMPORTED = (
    "convcast.archive.fetch",
    "convcast.dataset.preprocessing.preprocess",
    "convcast.dataset.preprocessing.decode",
    "convcast.forecasts.comparison",
    "convcast.forecasts.plot",
    "convcast.operations.cycle",
    "convcast.operations.page.write",
    "convcast.operations.prometheus",
    "dask.array",
    "filelock",
    "jinja2",
)
"""Modules that verbs import late; as they are imported before the first fork, no fork takes time for them."""


def sample(words):
    init = parse_hour(words[words.index("--init") + 1])
    dataset = Dataset.open(PLACE.dataset)
    dataset.require(init - np.arange(3) * HOUR)
    trained = json.loads((PLACE.model("demo") / "model.json").read_text())["training_hours"]
    told = {"training_hours": "/".join(trained)}
    description = ForecastDescription(init, (1,), (1,), dataset.variables, dataset.grid, {"simulated": 0}, told)
    with lock(PLACE.lock("sample"), "sampling"):
        store = EnsembleStore.prepare(PLACE.forecast(init), description, members=MEMBERS)
        for member in store.missing(range(MEMBERS), 1):
            time.sleep(0.02)
            store.write(member, 1, dataset.read([init])[0])
    return {}


def verify(words):
    analysed = set(Dataset.open(PLACE.dataset).hours.tolist())
    found = {from_compact(path.stem): path for path in sorted(PLACE.forecasts.glob("*.zarr"))}
    inits = [
        init
        for init, path in found.items()
        if (init + HOUR).item() in analysed and inventory.read_forecast(path, members=MEMBERS).complete
    ]
    values = np.ones((1, 1, 1, len(inits)))
    dimensions = ("system", "field", "lead_time", "init_time")
    scores = xr.Dataset(
        dict.fromkeys(("crps", "rmse", "spread", "error", "points"), (dimensions, values)),
        {
            "system": np.array(["convcast"], object),
            "field": np.array(["t2m"], object),
            "lead_time": np.array([1], "timedelta64[h]").astype("timedelta64[ns]"),
            "init_time": np.array(inits, "datetime64[ns]"),
        },
        {"members": MEMBERS},
    )
    path = PLACE.verification(words[words.index("--name") + 1]) / "scores.zarr"
    unfinished = path.with_name(f"{path.name}.{os.getpid()}{PARTIAL}")
    scores.to_zarr(unfinished, mode="w", zarr_format=3, consolidated=False)
    shutil.rmtree(path, ignore_errors=True)
    unfinished.rename(path)
    return {}


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def work(words):
    """Run a verb in this process, and return its exit code."""
    try:
        if words[0] in ("sample", "verify"):
            say({"sample": sample, "verify": verify}[words[0]](words))
        else:
            app(words)
    except SystemExit as stop:
        return stop.code or 0
    except ConvcastError as error:
        return error.exit_code
    except OSError as error:
        expected = from_os_error(error)
        return expected.exit_code if expected else 1
    except BaseException:  # noqa: BLE001  as the program: a traceback and 1
        traceback.print_exc()
        return 1
    return 0


def forked(words, *, seconds, grace):
    """Replace convcast.operations.stages.run by a fork, without a deadline."""
    begun = time.monotonic()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        append_line(BEGUN, {"stage": words[0], "pid": os.getpid()})
        os.dup2(into, 1)
        os.close(out)
        sys.stdout = os.fdopen(1, "w")
        code = work(words)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    os.close(into)
    with os.fdopen(out) as stream:
        text = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return ProcessResult(code, time.monotonic() - begun, json.loads(text.splitlines()[-1]) if text.strip() else {}, "")


def cycle(now, words, full):
    """Fork a cycle."""
    child = os.fork()
    if child == 0:
        stages.run = forked
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if full is not None:
            os.fsync = filling(full)
        os._exit(work(["cycle", "--now", now, *words, "-q", "--json", "-w", str(PLACE.root)]))
    return child


def filling(count):
    """Return an os.fsync that raises ENOSPC after `count` files."""
    written = itertools.count()
    to_disk = os.fsync

    def fsync(descriptor):
        if next(written) >= count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        to_disk(descriptor)

    return fsync


def begun():
    """Return the processes of the stages that have begun."""
    return [json.loads(line)["pid"] for line in BEGUN.read_text().splitlines()] if BEGUN.exists() else []


def over(running):
    """Whether all processes have ended; they can still be waited for."""
    return all(os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) for process in running)


def run(wanted):
    """Run the cycles of a request, and return their exit codes."""
    BEGUN.unlink(missing_ok=True)
    running = [cycle(wanted["now"], wanted["words"], wanted["full"]) for _ in range(wanted["count"])]
    if wanted["kill"]:
        stage, after, whom = wanted["kill"]
        while not over(running) and stage > len(begun()):
            time.sleep(0.005)
        time.sleep(after)
        for process in running:
            os.kill(process, signal.SIGKILL)
        for process in begun() if whom == "all" else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in running]


if __name__ == "__main__":
    load_settings(PLACE.settings_file)
    for name in IMPORTED:
        importlib.import_module(name)
    count_near(np.zeros((1, 9, 9), np.uint32), 2)  # loads what is compiled
    locations.prepare()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    http.FIRST_WAIT = 0.01
    gc.freeze()  # the garbage collector of forks skips the imported modules
    with nothing_drawn():
        for line in sys.stdin:
            say(run(json.loads(line)))
