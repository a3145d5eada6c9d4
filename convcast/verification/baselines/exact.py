"""Exact predictive ensemble of the simulated world: its simulator run from the analysis with new noise.

No model with the same analysis can do better, so its scores are the limit for other systems. On a part of the world it
is run from the whole world's analysis in the archive. Members are stored in the workspace and
computed only once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convcast import __version__
from convcast.archive import open_archives
from convcast.archive.simulated.publisher import WORLD_FILE, simulated_grid
from convcast.archive.simulated.world import FIELDS as SIMULATED_FIELDS, World
from convcast.conventions import ensemble_dataset
from convcast.dataset import Dataset
from convcast.dataset.preprocessing.decode import decode_hour
from convcast.errors import ConvcastError, DamagedFileError, MissingInputError, SettingsError
from convcast.files import read_json, whole_folder
from convcast.notation import Hour, compact
from convcast.variables import Variable
from convcast.verification.baselines.base import Baseline
from convcast.verification.data.ensembles import Ensemble, open_ensembles
from convcast.verification.data.gridded_files.points import Points
from convcast.verification.data.truth import Analyses
from convcast.verification.digest import digest
from convcast.workspace import Workspace

WORKERS = 2
"""Number of threads that compute ensembles ahead of the scoring."""


class Exact(Baseline):
    """Exact ensembles of the cases, stored under `<workspace>/baselines/exact/`."""

    name = "exact"

    def __init__(
        self,
        dataset: Dataset,
        workspace: Workspace,
        *,
        cases: Sequence[tuple[Hour, int]],
        members: int,
        seed: int,
    ) -> None:
        """Prepare to run the simulated world.

        Args:
            dataset: The dataset, of the simulated world or of a part of it.
            workspace: Where the ensembles are stored, beside the archive of the world.
            cases: Initial time and lead, hours, of the cases.
            members: Number of members.
            seed: Seed of the members' noise.

        Raises:
            SettingsError: The dataset is not of the simulated world, or lacks fields.
        """
        _require_world(dataset)
        self._dataset, self._truth = dataset, Analyses(dataset)
        self._folder = workspace.root / "baselines" / "exact"
        size, world_seed = _read_world(workspace.simulated / WORLD_FILE)
        self._whole = simulated_grid(size)
        if not self._whole.covers(dataset.grid):
            raise SettingsError(
                f"the dataset is not a part of the world of {size} x {size} points in {WORLD_FILE}",
                advice="leave out --against exact",
            )
        # On a part of the world the ensemble is run from the whole world, which the archive has.
        self._archive = None if dataset.grid.shape == (size, size) else open_archives(workspace.archive)["hrrr"]
        self._attributes: dict[str, Any] = {
            "system": self.name,
            "simulated": 1,
            "world_size": size,
            "world_seed": world_seed,
            "seed": seed,
            "members": members,
        }
        self._leads: dict[Hour, tuple[int, ...]] = {}
        for init, lead in cases:
            self._leads[init] = tuple(sorted({*self._leads.get(init, ()), lead}))
        self._world = World(size, size, world_seed)
        self._opened: tuple[Hour, Ensemble] | None = None
        self._due: dict[Hour, Future[Path]] = {}

    def missing(self, init: Hour, lead: int) -> str | None:
        return self._absent(init) or (None if lead in self._leads.get(init, ()) else f"lead {lead} was not requested")

    def fingerprint(self, init: Hour, lead: int) -> str:
        """Return a hash of the settings and leads that determine the noise, and of the analysis."""
        source = [] if self._archive is None else [self._archive.sidecar(self._archive.path(init, 0)).sha256]
        return digest(sorted(self._attributes.items()), self._leads[init], lead, self._truth.fingerprint(init), *source)

    def read(self, variable: Variable, init: Hour, lead: int) -> NDArray[np.float32]:
        if self._opened is None or self._opened[0] != init:
            due = self._due.get(init)
            self._opened = init, self._open(self._make(init) if due is None else due.result())
        ensemble = self._opened[1]
        return ensemble.read(variable, lead, ensemble.members(lead))

    def stop(self) -> None:
        """Cancel the ensembles that have not been started."""
        self._due = {init: future for init, future in self._due.items() if not future.cancel()}

    def begin(self, inits: Iterable[Hour]) -> None:
        """Compute the ensembles of these initial times in threads, ahead of the scoring."""
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="exact")
        for init in sorted(inits):
            if init not in self._due and not self._absent(init):
                self._due[init] = pool.submit(self._make, init)
        pool.shutdown(wait=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without open ensembles, which a worker computes or opens again."""
        return self.__dict__ | {"_due": {}, "_opened": None}

    def _absent(self, init: Hour) -> str | None:
        if init not in self._dataset.hours:
            return f"there is no analysis of {init}"
        names = [v.name for v in self._dataset.variables]
        if self._archive is not None and self._archive.has(self._archive.path(init, 0), names) is None:
            return f"the archive lacks the whole world's analysis of {init}"
        return None

    def _open(self, path: Path) -> Ensemble:
        points = Points.of_grid(self._dataset.grid)
        ensembles = open_ensembles(path, fields=self._dataset.variables, points=points, simulated=True).ensembles
        if not ensembles:
            raise DamagedFileError(f"{path} holds no forecast", advice=f"delete {path}, and it is made again")
        return ensembles[0]

    def _make(self, init: Hour) -> Path:
        path = self._folder / f"{compact(init)}.zarr"
        if self._is_there(path, init):
            return path
        variables = self._dataset.variables
        analysis = dict(zip((v.name for v in variables), self._analysis(init), strict=True))
        rows, columns = self._whole.window(self._dataset.grid)
        fields = self._world.exact_ensemble(
            analysis,
            init,
            leads=self._leads[init],
            members=self._attributes["members"],
            seed=self._attributes["seed"],
        )
        data = ensemble_dataset(
            {v.name: _publish(fields[v.name][..., rows, columns], v) for v in variables},
            init=init,
            members=range(self._attributes["members"]),
            leads=self._leads[init],
            grid=self._dataset.grid,
            attributes=self._attributes | {"convcast_version": __version__},
        )
        with whole_folder(path) as unfinished:
            data.to_zarr(unfinished, mode="w", zarr_format=3, consolidated=False)
        return path

    def _analysis(self, init: Hour) -> NDArray[np.float32]:
        """Return the published fields of the whole world, (variable, y, x)."""
        if self._archive is None:
            known: NDArray[np.float32] = self._dataset.read([init])[0]
            return known
        path = self._archive.path(init, 0)
        return decode_hour(path, valid=init, lead=0, variables=self._dataset.variables).values

    def _is_there(self, path: Path, init: Hour) -> bool:
        """Return whether the same ensemble is stored already."""
        if not path.is_dir():
            return False
        try:
            stored = self._open(path)
        except ConvcastError:
            return False
        same = all(stored.attributes.get(name) == value for name, value in self._attributes.items())
        return same and stored.init == init and set(self._leads[init]) <= set(stored.leads)


def _publish(values: NDArray[np.floating], variable: Variable) -> NDArray[np.float32]:
    """Round values to the precision of the simulated world's files."""
    return (np.round(values * variable.scale) / variable.scale).astype(np.float32)


def _require_world(dataset: Dataset) -> None:
    if not dataset.simulated:
        raise SettingsError(
            "the exact ensemble exists for the simulated world only, and this dataset is real weather",
            advice="use --against persistence --against climatology --against advection",
        )
    absent = [name for name in SIMULATED_FIELDS if name not in {v.name for v in dataset.variables}]
    if absent:
        raise SettingsError(
            f"the exact ensemble needs all fields of the simulated world, and the dataset lacks {' '.join(absent)}",
            advice="preprocess all fields, or leave out --against exact",
        )


def _read_world(path: Path) -> tuple[int, int]:
    """Read size and seed of the simulated world."""
    if not path.is_file():
        raise MissingInputError(
            f"{path}, which describes the simulated world, is not there",
            advice="run `convcast fetch --source simulated`, or leave out --against exact",
        )
    world = read_json(path)
    try:
        return int(world["size"]), int(world["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} does not name a world's size and seed ({error!r})") from error
