"""Coverage: the share of the truth's points at which each field is scored, and the systems that lack the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from convcast.metrics import MODEL
from convcast.verification.results.case_cache import LACKING, OF_TRUTH, Record


class Coverage:
    """Counts of points by field over all cases: of the truth, scored, and missing in each system."""

    def __init__(self) -> None:
        self._of_truth: Counter[str] = Counter()
        self._scored: Counter[str] = Counter()
        self._lacking: dict[str, Counter[str]] = {}

    def add(self, field: str, records: Mapping[str, Record]) -> None:
        """Count a case, whose records all have the field at the same points."""
        self._of_truth[field] += int(records[MODEL].notes[f"{OF_TRUTH}{field}"])
        self._scored[field] += int(records[MODEL].statistics[field].sums["points"])
        for system, record in records.items():
            self._lacking.setdefault(field, Counter())[system] += int(record.notes.get(f"{LACKING}{field}", 0))

    def sentences(self, systems: Sequence[str]) -> list[str]:
        """Return sentences about points that were left out, for the report."""
        sentences = []
        for field, of_truth in self._of_truth.items():
            if self._scored[field] == of_truth:
                continue
            shares = [
                f"{system} lacks {self._lacking[field][system] / of_truth:.1%}"
                for system in systems
                if self._lacking[field][system]
            ]
            share = f"{self._scored[field] / of_truth:.1%} of those of the truth"
            sentences.append(
                f"{field.upper()} is scored at the points that all systems have, {share}: {', '.join(shares)} of them"
            )
        return sentences
