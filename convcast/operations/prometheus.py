"""The status of a workspace in Prometheus text format, which metrics.prom holds for the node exporter."""

from __future__ import annotations

import math

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from convcast.notation import Hour
from convcast.operations.stages import stage_seconds
from convcast.operations.status import WorkspaceStatus


def metrics(status: WorkspaceStatus) -> bytes:
    """Return the status in Prometheus text format, without lines for unknown values."""
    registry = CollectorRegistry()

    def gauge(name: str, meaning: str, value: float | None, **labels: str) -> None:
        if value is not None and math.isfinite(value):
            known = gauges.get(name) or Gauge(f"convcast_{name}", meaning, tuple(labels), registry=registry)
            gauges[name] = known
            (known.labels(**labels) if labels else known).set(value)

    gauges: dict[str, Gauge] = {}
    last = status.last
    gauge("forecast_init_timestamp_seconds", "Initial time of the newest forecast.", _seconds(status.forecast))
    gauge("analysis_timestamp_seconds", "The newest analysis in the dataset.", _seconds(status.analysis))
    gauge("expected_timestamp_seconds", "The newest analysis that should be published.", _seconds(status.expected))
    gauge("late_hours", "Hours that should be published by now and are not here.", len(status.late))
    gauge("gap_hours", "Recent hours that did not come or were rejected.", len(status.gaps))
    gauge("due_cases", "Forecasts that could be scored and have not been.", status.due)
    gauge("disk_free_bytes", "Free on the workspace's disk.", status.free)
    gauge("cycle_exit_code", "Of the last cycle: 0 done, 4 late.", last.get("code"))
    gauge("cycle_duration_seconds", "Of the last cycle.", last.get("seconds"))
    gauge("cycle_timestamp_seconds", "When the last cycle ended.", last.get("ended"))
    gauge("cycle_success_timestamp_seconds", "When a cycle last ended well (0 or 4).", last.get("succeeded"))
    for stage, seconds in stage_seconds(last).items():
        gauge("stage_duration_seconds", "Of the last cycle's stages.", seconds, stage=stage)
    for one in status.skill:
        gauge("crps", "Mean fair CRPS of recent forecasts, in the field's units.", one.crps, field=one.field)
        gauge("spread_error_ratio", "Of recent forecasts.", one.spread_error_ratio, field=one.field)
        for against, value in one.skill.items():
            gauge("crps_skill", "1 - CRPS / CRPS of the baseline.", value, field=one.field, against=against)
    return generate_latest(registry)


def _seconds(hour: Hour | None) -> float | None:
    """Return the Unix time of an hour, seconds."""
    return None if hour is None else float(hour.astype("datetime64[s]").astype(np.int64))
