"""Ingest single hours into a dataset: decode the file, check the fields, write them and their histograms.

Each hour has its own files, so that several processes may ingest at once. An hour exists only after `preprocess` has
committed it, and ingesting it twice gives the same files.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convcast.dataset.layout import DatasetDescription, describe_grid
from convcast.dataset.preprocessing.quality import QualityFinding, examine, field_means, mask_collapsed
from convcast.dataset.store import Store
from convcast.errors import DamagedFileError
from convcast.files import sha256
from convcast.notation import Hour
from convcast.variables import Variable

Crop = tuple[slice, slice]
"""Rows and columns of the archive's grid that the dataset covers."""


@dataclass(frozen=True)
class ArchivedFile:
    """An archived file, which holds some or all fields of an hour."""

    path: Path
    sha256: str
    """SHA-256 of the file according to its sidecar."""
    signature: list[int]
    """Size and modification time of the file (convcast.files.signature)."""
    lead: int
    """Lead time of its fields, hours."""


@dataclass(frozen=True)
class ArchivedHour:
    """The archived files of an hour, one for each lead time of its fields."""

    valid: Hour
    files: tuple[ArchivedFile, ...]


@dataclass(frozen=True)
class IngestedHour:
    """Result of ingesting an hour; its fields are in the dataset's files unless they were rejected."""

    findings: tuple[QualityFinding, ...]
    damage: str
    """Reason why the file could not be decoded; empty if it could."""
    means: Mapping[str, float] | None
    """Spatial mean of each field by name, GRIB units; None if the hour was rejected."""
    seconds: float
    """Time spent on the hour, seconds."""

    @property
    def rejected(self) -> bool:
        """Whether the file is damaged or a finding rejects the hour."""
        return bool(self.damage) or any(finding.rejects for finding in self.findings)

    @property
    def reason(self) -> str:
        """Damage or findings as text; empty if there are none."""
        return self.damage or "; ".join(str(finding) for finding in self.findings)


@dataclass(frozen=True)
class HourIngester:
    """Writes single hours of one dataset; workers receive a copy and open the dataset themselves."""

    dataset: Path
    rows: slice
    """Rows of the archive's grid that the dataset covers."""
    columns: slice
    """Columns of the archive's grid that the dataset covers."""
    max_missing_points: float
    """Maximum fraction of missing points in an accepted field."""

    @cached_property
    def _store(self) -> Store:
        return Store.open(self.dataset, writing=True)

    def ingest(self, source: ArchivedHour) -> IngestedHour:
        """Decode and check an hour, and write its fields and histogram unless they are rejected."""
        started = time.perf_counter()
        variables = self._store.description.variables
        try:
            fields = self._load(source)
        except DamagedFileError as error:
            return IngestedHour((), str(error), None, time.perf_counter() - started)
        masked = mask_collapsed(fields, variables)
        findings = examine(fields, variables, masked=masked, max_missing_points=self.max_missing_points)
        ingested = IngestedHour((*masked, *findings), "", None, 0.0)
        if not ingested.rejected:
            self._store.write_hour(source.valid, fields)
            ingested = replace(ingested, means=field_means(fields, variables))
        return replace(ingested, seconds=time.perf_counter() - started)

    def count_changes(self, valid: Hour) -> float:
        """Write the histogram of changes from the hour before, which must be written; return the seconds taken."""
        started = time.perf_counter()
        self._store.write_tendencies(valid)
        return time.perf_counter() - started

    def _load(self, source: ArchivedHour) -> NDArray[np.float32]:
        """Read the fields (variable, y, x) of an hour, from one file or several."""
        description = self._store.description
        values = np.empty((len(description.variables), *description.grid.shape), np.float32)
        for file in source.files:
            some = description.leads[file.lead]
            numbers = [description.variables.index(variable) for variable in some]
            values[numbers] = load_fields(file, source.valid, some, description, (self.rows, self.columns))
        return values


def load_fields(
    file: ArchivedFile, valid: Hour, variables: Sequence[Variable], description: DatasetDescription, crop: Crop
) -> NDArray[np.float32]:
    """Decode fields of an archived file, (variable, y, x), on the dataset's grid.

    Args:
        file: The file, with its checksum.
        valid: Valid time that the file must have.
        variables: Fields to decode, in the order of the result.
        description: Kind and grid that the fields must have.
        crop: Rows and columns of the archive's grid that the dataset covers.

    Returns:
        float32, GRIB units, NaN where the file has no value.

    Raises:
        DamagedFileError: The file is not what was fetched, is of another time, grid or world than the dataset, or a
            message is missing or damaged.
    """
    from convcast.dataset.preprocessing.decode import decode_hour

    name = file.path.name
    if sha256(file.path) != file.sha256:
        raise DamagedFileError(f"{name} is not what was fetched: its checksum differs from its sidecar's")
    fields = decode_hour(file.path, valid=valid, lead=file.lead, variables=variables)
    if fields.simulated != description.simulated:
        raise DamagedFileError(f"{name} is {'simulated' if fields.simulated else 'real'}, unlike the dataset")
    if fields.grid.crop(*crop) != description.grid:
        raise DamagedFileError(f"{name} is on another grid ({describe_grid(fields.grid)})")
    return fields.crop(*crop).values
