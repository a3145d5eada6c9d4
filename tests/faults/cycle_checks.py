"""Check a workspace while cycles run in it, against the versions that were published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import zarr
from cycle_publisher import Publisher

from convcast.archive import Archive
from convcast.conventions import pack
from convcast.dataset import Dataset
from convcast.dataset.store import Store
from convcast.files import folder_bytes
from convcast.notation import from_compact
from convcast.variables import FIELDS
from convcast.workspace import Workspace


class WorkspaceChecks:
    """Checks of a workspace after every hour, since complete files must be right at any time."""

    def __init__(self, place: Workspace, publisher: Publisher) -> None:
        self.place, self.publisher = place, publisher
        self.seen: dict[np.datetime64, int] = {}
        """Number of the version of each hour that the dataset holds."""
        self.forecasts: set[np.datetime64] = set()
        self.largest: Counter[str] = Counter()
        """Bytes of the largest item of each folder, and of all folders except the page, for which pictures are
        counted."""
        self.most: Counter[str] = Counter()
        """Maximum number of items of each folder."""

    def look(self) -> None:
        if self.place.dataset.exists():
            self._analyses()
        for path in sorted(self.place.forecasts.glob("*.zarr")):
            assert (path / "zarr.json").is_file(), f"{path} has its name before it is whole"
            self._forecast(path)
        self._sizes()

    def _analyses(self) -> None:
        dataset = Dataset.open(self.place.dataset)
        archive = Archive(self.place.archive / "hrrr")
        vouched = set(archive.hours(0).tolist())
        for hour in dataset.hours:
            stored = _packed(dataset.read([hour])[0])
            versions = self.publisher.versions[hour]
            number = next((n for n, one in enumerate(versions) if np.array_equal(one.packed, stored)), None)
            assert number is not None, f"{hour} is no upload of its publisher's"
            assert self.seen.setdefault(hour, number) == number, f"{hour} has changed"
            if hour.item() in vouched:
                assert archive.sidecar(archive.path(hour, 0)).sha256 == versions[number].sha256

    def _forecast(self, path: Path) -> None:
        """Check that members are copies of the analysis, as the stand-in for sampling makes them."""
        group = zarr.open_group(path, mode="r", use_consolidated=False)
        there = np.asarray(group["complete"])[0, :, 0] > 0
        stored = np.stack([np.asarray(group[name][0, there, 0]) for name in FIELDS], 1)
        init = from_compact(path.stem)
        assert group.attrs["init"] == path.stem
        for member in stored:
            assert np.array_equal(_packed(member), self.publisher.versions[init][self.seen[init]].packed)
        if there.sum() == 4:
            self.forecasts.add(init)

    def _sizes(self) -> None:
        store = Store.open(self.place.dataset) if self.place.dataset.exists() else None
        arrays = self.place.dataset.rglob("c") if store else ()
        things = {
            "archive": list(self.place.archive.rglob("*.grib2")),
            "dataset": list(store.stored_hours()) if store else [],
            "forecasts": list(self.place.forecasts.glob("*.zarr")),
            "page": list(self.place.page.glob("*.png")),
        }
        sizes = {
            "archive": [_size(path) for path in things["archive"]],
            "dataset": [sum(folder_bytes(c) for c in arrays) / max(1, len(things["dataset"]))],
            "forecasts": [folder_bytes(path) for path in things["forecasts"]],
            "page": [],
        }
        for room, found in things.items():
            self.most[room] = max(self.most[room], len(found))
            self.largest[room] = round(max([self.largest[room], *sizes[room]]))
        without_page = folder_bytes(self.place.root) - folder_bytes(self.place.page)
        self.largest["all"] = max(self.largest["all"], without_page)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _packed(values: np.ndarray) -> np.ndarray:
    return np.stack([pack(variable, field) for variable, field in zip(FIELDS.values(), values, strict=True)])
