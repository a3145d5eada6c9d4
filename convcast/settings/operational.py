"""Settings of verification, of the hourly cycle, and of what is kept how long."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, HttpUrl, SecretStr, TypeAdapter, ValidationError

from convcast.settings.group import DurationOrForever, FieldName, Group, check_unique


def _check_address(text: SecretStr) -> SecretStr:
    """Check that the text is an http or https address; the error does not show it, since it may hold a secret."""
    try:
        TypeAdapter(HttpUrl).validate_python(text.get_secret_value())
    except ValidationError:
        raise ValueError("it is not an http or https address") from None
    return text


class VerificationSettings(Group):
    """Verification of forecasts."""

    against: tuple[str, ...] = ("persistence", "climatology", "advection")
    """Baselines that are scored on the same cases."""
    truths: Annotated[tuple[Literal["analyses", "mrms"], ...], Field(min_length=1)] = ("analyses",)
    """Truths that score the forecasts where --truth is not given: analyses, radar scans, or both in one report."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Confidence level of the bootstrap intervals."""
    resamples: int = Field(2000, ge=100)
    """Number of bootstrap resamples; whole days are resampled."""
    seed: int = Field(0, ge=0)
    """Random seed of the baselines and the bootstrap."""
    baseline_members: int = Field(50, ge=2)
    """Members of the exact, climatology and advection ensembles."""
    rim: int = Field(0, ge=0)
    """Width in grid cells of the unscored rim of the domain, where weather enters from outside."""
    neighbourhoods: tuple[float, ...] = (9, 27, 81)
    """Side lengths of the fractions skill score's neighbourhoods, in km."""
    cache_gigabytes: float = Field(4, gt=0)
    """Memory for past weather that climatology and advection draw from, of each worker."""
    lagged_ages: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(check_unique)] = (1, 2, 3, 4, 5)
    """Ages in hours of the HRRR forecasts in the time-lagged ensemble, relative to the case's own cycle."""
    calibration_days: float = Field(5, gt=0, le=366)
    """Days before the newest analysis whose forecasts the calibration is learnt from."""
    calibration_points: int = Field(512, ge=16)
    """Points drawn from each forecast, of each regime and from everywhere, to learn the calibration from."""
    radar_cells: Literal["maximum", "mean"] = "maximum"
    """How the radar pixels in a cell are joined where MRMS is the truth: their maximum, or the mean of their Z."""


class AlertPoint(Group):
    """An alert: an event at a location, and the probability above which the alert is sent."""

    name: str = ""
    """Name of the location, shown in the alert."""
    latitude: float = Field(ge=-90, le=90)
    """Latitude, degrees."""
    longitude: float = Field(ge=-180, le=180)
    """Longitude, degrees, negative in the west."""
    field: FieldName
    """Field of the event."""
    threshold: float
    """Threshold of the event in the field's units: at or above it, or for CIN at or below it."""
    probability: float = Field(ge=0, lt=100)
    """Probability above which the alert is sent, in percent."""
    radius_km: float = Field(0, ge=0, le=300)
    """Radius in km within which the maximum probability counts; 0 uses the nearest grid point."""


class ThresholdSettings(Group):
    """Alerts, and the command that sends them."""

    points: tuple[AlertPoint, ...] = ()
    """Alerts that are checked for each forecast."""
    command: tuple[str, ...] = ()
    """Command that is run for each alert, as a list of words."""


class OperationsSettings(Group):
    """The hourly cycle."""

    max_catch_up: float = Field(24, ge=0)
    """Hours before the newest analysis within which missing hours are fetched and missing forecasts drawn."""
    deadline: float = Field(50, gt=0)
    """Minutes after which all stages stop, so that a cycle ends before the next one begins."""
    grace: float = Field(30, ge=0)
    """Seconds that a stage has to stop before it is killed."""
    every: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 1
    """Hours between forecasts: with 3, forecasts start at 00, 03, 06, … UTC."""
    leads: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Lead times of each forecast, in hours; if empty, those that the model was trained for."""
    least_free: float = Field(5, ge=0)
    """Minimum free disk space in gigabytes, after pruning, for a cycle to begin."""
    skill_days: float = Field(7, gt=0)
    """Number of days of scored forecasts that count as recent in `convcast status` and metrics.prom."""
    on_failure: tuple[str, ...] = ()
    """Command (a list of words, no shell) run when a cycle fails, with its journal entry as JSON on stdin."""
    on_publish: tuple[str, ...] = ()
    """Command run when a new forecast is published, with the content of latest.json on stdin."""
    on_threshold: ThresholdSettings = ThresholdSettings()
    """`points` (each with name, latitude, longitude, field, threshold, probability, radius_km), and the `command` run,
    once a forecast, for each point whose probability (percent) is exceeded, with what was found as JSON on stdin."""
    webhook: Annotated[SecretStr, AfterValidator(_check_address)] | None = None
    """Address to which the JSON of on_failure and on_threshold is also posted. It is never shown."""
    hook_seconds: float = Field(120, gt=0)
    """Maximum run time of each command, in seconds."""
    page_fields: tuple[FieldName, ...] = ()
    """Fields that latest/index.html shows, in its order; if empty, all of the forecast, reflectivity first."""
    page_max_age: float = Field(3, gt=0)
    """Age in hours, since its init time, from which latest/index.html marks the newest forecast as old."""


class RetentionSettings(Group):
    """Retention by cycles; `inf` means forever. Scores by case are always kept."""

    archive_hours: DurationOrForever = 14 * 24.0
    """Hours before the newest hour for which GRIB files are kept."""
    dataset_hours: DurationOrForever = math.inf
    """Hours for which the dataset is kept; training hours always stay, since baselines draw from them."""
    forecasts_days: DurationOrForever = 7.0
    """Days for which members are kept: 0.8 GB per lead time and forecast of 50 members over CONUS."""
    products_days: DurationOrForever = math.inf
    """Days for which products are kept."""
    statistics_days: DurationOrForever = math.inf
    """Days for which the statistics of scored cases are kept, which reports use: 1.4 GB per year and lead time."""
