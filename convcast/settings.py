"""Every setting, its meaning and its default, in one strict tree.

What counts, first to last: a flag, a `CONVCAST_<GROUP>__<NAME>` variable, the workspace's convcast.toml, the preset.
A default that all presets share stands here; what differs stands in `convcast/presets/<name>.toml`, and nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    PlainSerializer,
    SecretStr,
    TypeAdapter,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError as PydanticSettingsError,
    TomlConfigSettingsSource,
)

from convcast.errors import SettingsError
from convcast.notation import parse_hour, without_credentials
from convcast.variables import select

PRESETS = ("demo", "phase1", "phase2")
ENVIRONMENT_PREFIX = "CONVCAST_"
NOT_SETTINGS = {"CONVCAST_WORKSPACE"}
"""Variables with the prefix that the command line reads itself."""

ReferenceName = Literal["direct", "persistence", "advected", "regression"]
Precision = Literal["auto", "bfloat16", "float32"]
SolverName = Literal["ddpm", "ddim", "dpmpp_2m", "unipc"]
FieldName = Annotated[str, AfterValidator(lambda name: select((name,))[0].name)]
Multipliers = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=8)]
ModelLeads = Annotated[tuple[Annotated[int, Field(ge=1, le=48)], ...], Field(min_length=1, max_length=48)]
HistoryLength = Annotated[int, Field(ge=2, le=48)]
FieldNames = Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(v.name for v in select(names)))]

# JSON has no infinity; as text it is read again as what it was.
DurationOrForever = Annotated[
    float, Field(gt=0), PlainSerializer(lambda n: n if math.isfinite(n) else "inf", when_used="json")
]
"""A length of time that may be for ever."""


SourceName = Annotated[str, PlainSerializer(without_credentials, return_type=str)]
"""A source as --source describes; the password that an address may hold is in nothing that is written."""


def _check_address(text: SecretStr) -> SecretStr:
    """Raises ValueError, without the address, which often is a password, for what cannot be posted to."""
    try:
        TypeAdapter(HttpUrl).validate_python(text.get_secret_value())
    except ValidationError:
        raise ValueError("it is not an http or https address") from None
    return text


def _check_hour(text: str) -> str:
    """Raises ValueError for what is no hour that HRRR can have."""
    try:
        parse_hour(text)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return text


def _check_unique(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Raises ValueError where one of them is there twice."""
    if len(set(numbers)) < len(numbers):
        raise ValueError("give each once")
    return numbers


class Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ArchiveSettings(Group):
    """Where GRIB files come from, and how patiently."""

    sources: tuple[SourceName, ...] = ("aws", "google", "azure", "nomads")
    """Tried in this order until one has the file; each as --source describes."""
    workers: int = Field(8, ge=1, le=64)
    """Files fetched at the same time."""
    connect_timeout: float = Field(5, gt=0, le=3600)
    """Seconds."""
    read_timeout: float = Field(30, gt=0, le=3600)
    """Seconds without a byte. Connecting and the headers together may take no longer than both timeouts."""
    retries: int = Field(4, ge=0, le=100)
    """Further attempts after a reset, a 429 or a 5xx, with growing, randomised waits."""
    deadline: float | None = Field(None, gt=0, le=525_600)
    """Minutes after which no further hour is begun; the next run goes on from there."""
    late_hours: float = Field(3, ge=0)
    """An hour that is nowhere and younger than this is late, an older one is a gap."""
    max_missing: float = Field(0.05, ge=0, le=1)
    """Share of the hours asked for that may be missing or rejected before the exit code is 3."""


class SimulationSettings(Group):
    """The simulated archive: how large, from when, how long."""

    size: int = Field(64, ge=32, le=512)
    """Cells along each side."""
    start: Annotated[str, AfterValidator(_check_hour)] = "2024-05-09T00"
    days: int = Field(22, ge=1, le=3660)
    """Days published."""
    seed: int = Field(1, ge=0)


class DatasetSettings(Group):
    """What preprocess keeps."""

    fields: FieldNames = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")
    """Fields of the dataset, in the model's channel order."""
    analysis_lead: int = Field(0, ge=0, le=1)
    """Forecast hour taken for the analysis: 0, or 1 where only f01 files exist."""
    region: str = "conus"
    """A named region, rows and columns y0:y1,x0:x1 of the HRRR grid, or degrees as 30N:37N,104W:94W."""


class SplitSettings(Group):
    """How the hours are divided in time: training, then validation, then test, with a gap between."""

    validation_days: float = Field(1, ge=0)
    test_days: float = Field(0, ge=0)
    """Hours at the end that training never sees, for verification."""
    gap_hours: int = Field(6, ge=0)
    """Hours dropped between the parts, so that no weather is in two."""


class ModelSettings(Group):
    """The network and the diffusion process."""

    # The upper bounds let a network be laid out, without memory, whatever a model.json from elsewhere says.

    leads: ModelLeads = (1,)
    """Hours ahead that the model is trained for."""
    history: HistoryLength = 4
    """Past hours that the model sees, the last analysis included."""
    base: int = Field(ge=8, le=4096)
    """Channels of the first level."""
    multipliers: Multipliers
    """Channels of each level, in units of `base`; each level halves the resolution."""
    blocks: int = Field(ge=1, le=16)
    """Residual blocks a level."""
    attention: Annotated[tuple[int, ...], Field(max_length=16)]
    """Downsampling factors at which the denoiser has attention."""
    window: int = Field(ge=2, le=128)
    """Side of the attention windows, in tokens."""
    encoder_multipliers: Multipliers = (1, 2)
    """Of the encoder of the condition, as `multipliers`."""
    encoder_blocks: int = Field(1, ge=1, le=16)
    """Residual blocks a level of the encoder."""
    unshuffle: int = Field(1, ge=1, le=16)
    """Cells folded into channels before the first level, along each side."""
    embedding: int = Field(128, ge=8, le=8192)
    """Width of the embedding of noise level, lead and hour."""
    dropout: float = Field(0.1, ge=0, lt=1)
    diffusion_steps: int = Field(ge=10, le=10_000)
    """T, the steps of the diffusion process."""
    parameterisation: Literal["spectral", "velocity", "preconditioned", "raw"] = "spectral"
    """How noise is predicted: by a network beside what the residuals' covariances tell, by one alone, or by one beside
    the encoder's guess; `raw` is without preconditioning."""
    reference: dict[str, ReferenceName] = {"default": "regression"}
    """Forecast whose error is diffused, by field, with a `default`."""
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    """Share of training samples whose condition is blanked, so that guidance works."""


class TrainingSettings(Group):
    """How the model is trained."""

    patch: int = Field(ge=16)
    """Cells along each side of a training sample; a smaller domain is used whole."""
    convective: float = Field(0.0, ge=0, lt=1)
    """Share of the samples placed over the echoes (20 dBZ) of their initial hour; the others lie anywhere."""
    cache: bool = False
    """Unpack the hours into cache/, 27 MB each over CONUS, so that random samples are read many times quicker."""
    workers: int = Field(1, ge=1)
    """Threads of each process that prepare samples while the network is busy."""
    batch: int = Field(ge=1)
    """Samples a step and process."""
    draws: int = Field(1, ge=1)
    """Noise levels a sample: its condition is encoded once for all of them."""
    accumulation: int = Field(1, ge=1)
    """Batches an optimiser step."""
    steps: int = Field(ge=1)
    """Optimiser steps; the learning rate follows a cosine down to zero at the last."""
    minutes: float | None = Field(None, gt=0)
    """If set, the time that the schedule is stretched or shrunk to; `steps` is then only the most."""
    learning_rate: float = Field(gt=0)
    warm_up: int = Field(100, ge=1)
    """Steps over which the learning rate rises."""
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    weights: dict[FieldName, Annotated[float, Field(ge=0)]] = {}
    """Of fields in the loss, by name, where they are not to be those of the table of fields."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the averaged weights that are sampled from."""
    precision: Precision = "auto"
    """Of the network; `auto` is bfloat16 where the processor computes in it, and float32 elsewhere."""
    threads: int = Field(2, ge=1)
    """CPU threads of each process."""
    recompute: bool = False
    """Compute activations again in the backward pass (gradient checkpointing): less memory, more time."""
    shard_above: int = Field(400_000_000, ge=0)
    """Parameters from which processes share one copy of the weights (FSDP2) instead of each having one (DDP)."""
    checkpoint_every: int = Field(500, ge=1)
    """Steps between checkpoints, each with a validation."""
    keep: int = Field(2, ge=1)
    """Latest checkpoints kept to go on from, besides the best weights, which are sampled from."""
    validation_cases: int = Field(16, ge=0)
    """Validation cases for which an ensemble is drawn at each checkpoint; 0 draws none."""
    validation_members: int = Field(8, ge=2)
    """Members of each."""
    log_every: int = Field(50, ge=1)
    seed: int = Field(0, ge=0)


DEFAULT_EVALUATIONS = 10
"""Network evaluations that keep CRPS and spread of all T steps (docs/method.md, solvers and steps)."""


class SamplingSettings(Group):
    """How an ensemble is drawn."""

    members: int = Field(50, ge=1)
    seed: int = Field(0, ge=0)
    solver: SolverName = "unipc"
    steps: int | None = Field(None, ge=1)
    """Network evaluations a member and lead; if not set, 10, and for `ddpm` all T."""
    eta: float = Field(0.0, ge=0, le=1)
    """Of `ddim`: fresh noise in each step, from none (0) to as much as `ddpm` adds (1)."""
    guidance: float = Field(1.0, ge=0)
    """w in ε∅ + w (εc - ε∅): 1 is as trained, below 1 leans towards residuals of average spread."""
    batch: int | None = Field(None, ge=1)
    """Members drawn together on a GPU (if not set, as many as fit); on a CPU the number follows from the tile, so that
    members are reproducible."""
    keep: Literal["members", "products", "both"] = "members"
    """What stays: the members, only what they say together (which verification by members cannot use), or both."""
    memory: float | None = Field(None, gt=0)
    """GB that sampling may take, of the GPU or else of the machine; if not set, four fifths of what is free."""
    lead_correlation: float = Field(0.0, ge=0, le=1)
    """Correlation of the noise of a member's leads, so that members keep their character from lead to lead."""
    tile: int = Field(256, ge=16)
    """Cells along each side of a tile of a domain larger than this."""
    overlap: int = Field(64, ge=0)
    """Cells that neighbouring tiles share."""
    precision: Precision = "auto"
    """Of the network; `auto` is bfloat16 where the processor computes in it, and float32 elsewhere."""
    threads: int = Field(2, ge=1)

    def evaluations(self, diffusion_steps: int) -> int:
        """Network evaluations a member and lead, of a model whose diffusion process has this many steps."""
        if self.steps is not None:
            return self.steps
        return diffusion_steps if self.solver == "ddpm" else min(DEFAULT_EVALUATIONS, diffusion_steps)


class ProductSettings(Group):
    """What is made of an ensemble's members."""

    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.1, 0.5, 0.9)
    """Levels of the quantiles at each point."""
    neighbourhood: float = Field(40.0, gt=0, le=300)
    """Radius in km within which an event counts in neighbourhood probabilities."""


class VerificationSettings(Group):
    """How forecasts are judged."""

    against: tuple[str, ...] = ("persistence", "climatology", "control")
    """Baselines scored on the same cases."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the intervals."""
    resamples: int = Field(2000, ge=100)
    """Bootstrap resamples, of whole days."""
    seed: int = Field(0, ge=0)
    baseline_members: int = Field(50, ge=2)
    """Members of the exact, climatology and control ensembles."""
    rim: int = Field(0, ge=0)
    """Cells along the edges of the domain that are not scored, over which weather comes in."""
    neighbourhoods: tuple[float, ...] = (9, 27, 81)
    """Sides in km of the squares in which FSS compares fractions."""
    cache_gigabytes: float = Field(4, gt=0)
    """Memory for past weather that climatology and control draw from, of each worker."""
    lagged_ages: Annotated[tuple[Annotated[int, Field(ge=0)], ...], AfterValidator(_check_unique)] = (1, 2, 3, 4, 5)
    """Ages in hours of the HRRR forecasts that make the time-lagged ensemble, counted from the case's own cycle."""


class AlertPoint(Group):
    """An event near a place, and how probable it must be to be told of."""

    name: str = ""
    """What the place is called, for whoever is told."""
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    """Degrees, negative in the west."""
    field: FieldName
    threshold: float
    """In the field's units; the event is to reach it from the side that counts (CIN from above)."""
    probability: float = Field(ge=0, lt=100)
    """Percent that must be exceeded."""
    radius_km: float = Field(0, ge=0, le=300)
    """The largest probability within this distance counts; 0 is the nearest grid point's."""


class ThresholdSettings(Group):
    """What is watched, and who is told."""

    points: tuple[AlertPoint, ...] = ()
    command: tuple[str, ...] = ()


class OperationsSettings(Group):
    """The hourly cycle."""

    max_catch_up: float = Field(24, ge=0)
    """Hours back from the newest analysis within which missing hours are fetched and missing forecasts drawn."""
    deadline: float = Field(50, gt=0)
    """Minutes after which no stage goes on, so that a cycle ends before the next one begins."""
    grace: float = Field(30, ge=0)
    """Seconds that a stage has to end in, once it was told to, before it is killed."""
    every: Literal[1, 2, 3, 4, 6, 8, 12, 24] = 1
    """Hours between forecasts: 3 draws those of 00, 03, 06, … UTC alone."""
    leads: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Hours ahead of each forecast; if none is named, those that the model was trained for."""
    least_free: float = Field(5, ge=0)
    """Gigabytes that must be free on the workspace's disk, after pruning, for a cycle to begin."""
    skill_days: float = Field(7, gt=0)
    """Days of scored forecasts that `convcast status` and metrics.prom call recent."""
    on_failure: tuple[str, ...] = ()
    """Command (a list of words, no shell) run when a cycle fails, with its journal entry as JSON on stdin."""
    on_publish: tuple[str, ...] = ()
    """Command run when there is a new forecast, with what latest.json says on stdin."""
    on_threshold: ThresholdSettings = ThresholdSettings()
    """`points` (each with name, latitude, longitude, field, threshold, probability, radius_km), and the `command` run,
    once a forecast, for each point whose probability (percent) is exceeded, with what was found as JSON on stdin."""
    webhook: Annotated[SecretStr, AfterValidator(_check_address)] | None = None
    """Address that what on_failure and on_threshold are told is posted to as well. It is shown nowhere."""
    hook_seconds: float = Field(120, gt=0)
    """Time that each command has."""
    page_max_age: float = Field(3, gt=0)
    """Hours since its initial time after which latest/index.html calls the newest forecast old."""


class RetentionSettings(Group):
    """How long cycles keep things; `inf` is for ever. Scores by case are always kept for ever."""

    archive_hours: DurationOrForever = 14 * 24.0
    """GRIB files, counted back from the newest hour."""
    dataset_hours: DurationOrForever = math.inf
    """Hours of the dataset; those that the model learned from stay, since baselines draw from them."""
    forecasts_days: DurationOrForever = 7.0
    """Members, by initial time: 0.8 GB a lead and forecast of 50 over CONUS."""
    products_days: DurationOrForever = math.inf
    """What was made of the members."""
    statistics_days: DurationOrForever = math.inf
    """Statistics of scored cases that reports are made of, 1.4 GB a year and lead."""


class Settings(BaseSettings):
    """The whole tree."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    preset: Literal["demo", "phase1", "phase2"] = "phase1"
    archive: ArchiveSettings = ArchiveSettings()
    simulation: SimulationSettings = SimulationSettings()
    dataset: DatasetSettings = DatasetSettings()
    split: SplitSettings = SplitSettings()
    model: ModelSettings
    training: TrainingSettings
    sampling: SamplingSettings = SamplingSettings()
    products: ProductSettings = ProductSettings()
    verification: VerificationSettings = VerificationSettings()
    operations: OperationsSettings = OperationsSettings()
    retention: RetentionSettings = RetentionSettings()

    def digest(self) -> str:
        """Twelve hexadecimal digits that name these settings."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]


def load_settings(
    file: Path | None = None, flags: Mapping[str, Any] | None = None, *, preset: str | None = None
) -> Settings:
    """The settings in force: flags (a nested table) over variables over the TOML `file` over the preset.

    Raises SettingsError, with a suggestion, for an unreadable file, an unknown name or a value out of range.
    """
    _refuse_unknown_variables()
    table = _read_toml(file) if file else {}
    chosen = (
        preset
        or (flags or {}).get("preset")
        or os.environ.get(ENVIRONMENT_PREFIX + "PRESET")
        or table.get("preset", "phase1")
    )
    if chosen not in PRESETS:
        raise SettingsError(f"there is no preset {chosen!r}", advice=f"choose from {' '.join(PRESETS)}")
    defaults = files("convcast") / "presets" / f"{chosen}.toml"

    class Resolved(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            tables = [file] if file else []
            return (
                init_settings,
                env_settings,
                *(TomlConfigSettingsSource(settings_cls, path) for path in [*tables, Path(str(defaults))]),
            )

    try:
        return Resolved(**{**(flags or {}), "preset": chosen})
    except ValidationError as error:
        raise _explain(error, file) from None
    except PydanticSettingsError as error:
        raise SettingsError(f"a {ENVIRONMENT_PREFIX}* variable cannot be read: {error}") from None


def nested(assignments: list[str]) -> dict[str, Any]:
    """The table that `group.name=value` flags describe, values in TOML notation or as bare words.

    Raises SettingsError for text that is not an assignment.
    """
    table: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not path.strip():
            shown = without_credentials(repr(assignment))
            raise SettingsError(f"{shown} is not group.name=value", advice="try --set training.batch=8")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        group = table
        *parents, name = path.strip().split(".")
        for parent in parents:
            group = group.setdefault(parent, {})
        group[name] = value
    return table


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not readable TOML: {error}", advice=f"mend {path}") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def _known(path: tuple[str, ...]) -> tuple[str, ...]:
    """Names that may stand at this place of the tree."""
    model: type[BaseModel] = Settings
    for name in path:
        if name.isdecimal():  # of a list
            continue
        inner = model.model_fields[name].annotation if name in model.model_fields else None
        inner = next(iter(get_args(inner)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return ()
        model = inner
    return tuple(model.model_fields)


def _suggestion(path: tuple[str, ...]) -> str:
    *group, name = path
    known = _known(tuple(group))
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f"did you mean {'.'.join([*group, close[0]])}?"
    return f"{'.'.join(group) or 'the top level'} has {' '.join(known)}"


def _explain(error: ValidationError, file: Path | None) -> SettingsError:
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"])
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        return SettingsError(f"there is no setting {name!r}", advice=_suggestion(path))
    where = f" (see {file})" if file else ""
    reason = first["msg"].removeprefix("Value error, ")
    if path[-1] == "webhook":
        return SettingsError(f"{name} cannot be used: {reason}{where}")
    return SettingsError(f"{name} = {without_credentials(repr(first['input']))} cannot be: {reason}{where}")


def _refuse_unknown_variables() -> None:
    for variable in os.environ:
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable in NOT_SETTINGS:
            continue
        path = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
        if path[-1] not in _known(path[:-1]):
            raise SettingsError(f"the variable {variable} is not a setting", advice=_suggestion(path))
