"""All settings, with their meaning and default, as one strict tree.

A flag overrides a `CONVCAST_<GROUP>__<NAME>` variable, which overrides the workspace's convcast.toml, which overrides
the preset. Defaults that all presets share are here; those that differ are in `convcast/settings/presets/<name>.toml`.
"""

from __future__ import annotations

import hashlib
import json
from datetime import date
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    SettingsConfigDict,
)

from convcast.errors import SettingsError
from convcast.notation import parse_hour, without_credentials
from convcast.settings.group import FieldName, Group, check_unique
from convcast.settings.operational import OperationsSettings, RetentionSettings, VerificationSettings
from convcast.variables import by_lead, select

ENVIRONMENT_PREFIX = "CONVCAST_"

ReferenceName = Literal["direct", "persistence", "advected", "regression"]
InputName = Literal["hour", "sun", "ground"]
ALL_INPUTS: tuple[InputName, ...] = ("hour", "sun", "ground")
Precision = Literal["auto", "bfloat16", "float32"]
CompileChoice = Literal["auto", "on", "off"]
SolverName = Literal["exponential", "unipc", "dpmpp_2m", "ddim", "ddpm"]
Multipliers = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=8)]
ModelLeads = Annotated[tuple[Annotated[int, Field(ge=0, le=48)], ...], Field(min_length=1, max_length=48)]
HistoryLength = Annotated[int, Field(ge=2, le=48)]
FieldNames = Annotated[tuple[str, ...], AfterValidator(lambda names: tuple(v.name for v in select(names)))]

SourceName = Annotated[str, PlainSerializer(without_credentials, return_type=str)]
"""A source, as --source describes it. Credentials in an address are removed whenever it is written."""


def _to_text(value: object) -> object:
    """Convert a date that TOML writes without quotes to text."""
    return value.isoformat() if isinstance(value, date) else value


def _check_hour(text: str) -> str:
    """Check that the text is an hour for which HRRR can exist."""
    try:
        parse_hour(text)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return text


def _check_tile(value: object) -> object:
    """Check the value before pydantic does, whose message would name only the first type of the union."""
    if value != "auto" and not (str(value).isdecimal() and int(str(value)) >= SMALLEST_TILE):
        raise ValueError(f"it must be auto, or a number of cells from {SMALLEST_TILE}")
    return value


SMALLEST_TILE = 16
"""Minimum side of a tile, cells."""
Tile = Annotated[Literal["auto"] | int, BeforeValidator(_check_tile)]
HRRR_LONGEST_LEAD = 48
"""Longest lead time, hours, of the HRRR cycles of 00, 06, 12 and 18 UTC; the others run to 18 h."""
ForcingAges = Annotated[
    tuple[Annotated[int, Field(ge=0, le=24)], ...],
    Field(min_length=1, max_length=8),
    AfterValidator(check_unique),
    AfterValidator(lambda ages: tuple(sorted(ages))),
]


class ArchiveSettings(Group):
    """Sources of GRIB files, with timeouts and retries."""

    sources: tuple[SourceName, ...] = ("aws", "google", "azure", "nomads")
    """Sources, tried in this order until one has the file; each as --source describes."""
    workers: int = Field(8, ge=1, le=64)
    """Number of files fetched at the same time."""
    connect_timeout: float = Field(5, gt=0, le=3600)
    """Timeout for connecting to a server, in seconds."""
    read_timeout: float = Field(30, gt=0, le=3600)
    """Timeout for each read, in seconds. Connecting and reading the headers may take the sum of both timeouts."""
    retries: int = Field(4, ge=0, le=100)
    """Maximum number of retries after a reset, a 429 or a 5xx, with growing, randomised waits."""
    deadline: float | None = Field(None, gt=0, le=525_600)
    """Minutes after which fetching stops; the next run continues from there."""
    late_hours: float = Field(3, ge=0)
    """Age in hours up to which an hour that no source has counts as late; an older one is a gap."""
    max_missing: float = Field(0.05, ge=0, le=1)
    """Maximum fraction of the requested hours that may be missing or rejected; above it the exit code is 3."""


class SimulationSettings(Group):
    """Size, start and length of the simulated archive."""

    size: int = Field(64, ge=32, le=512)
    """Grid cells along each side of the domain."""
    start: Annotated[str, BeforeValidator(_to_text), AfterValidator(_check_hour)] = "2024-05-09T00"
    """First published hour, UTC."""
    days: int = Field(22, ge=1, le=3660)
    """Number of days published."""
    seed: int = Field(1, ge=0)
    """Random seed of the simulated world."""


class DatasetSettings(Group):
    """Settings of the dataset that `convcast preprocess` writes."""

    fields: FieldNames = ("refc", "t2m", "d2m", "u10", "v10", "cape", "cin")
    """Fields of the dataset, in the model's channel order."""
    analysis_lead: int = Field(0, ge=0, le=1)
    """Forecast hour used as the analysis: 0, or 1 where only f01 files exist."""
    dewpoint: Literal["analysis", "previous_f01"] = "analysis"
    """Source of D2M: the analysis, or f01 of the cycle before, which has no collapsed points."""
    max_missing_points: float = Field(0.001, ge=0, lt=1)
    """Maximum fraction of missing points in an accepted field; radar has gaps. They are neither learnt nor scored."""
    ground: Literal["archive", "flat"] = "archive"
    """Terrain and land mask: those of the archive, or flat land where the source has none, as with radar."""
    region: str = "conus"
    """Region: a name, rows and columns y0:y1,x0:x1 of the HRRR grid, or degrees as 30N:37N,104W:94W."""

    @property
    def leads(self) -> tuple[int, ...]:
        """Lead times, hours, of the files from which an hour is made."""
        return tuple(by_lead(select(self.fields), self.analysis_lead, self.dewpoint))


class SplitSettings(Group):
    """Split of the hours in time: training, then validation, then test, with gaps between them."""

    validation_days: float = Field(1, ge=0)
    """Total length of the validation, in days."""
    validation_periods: int = Field(1, ge=1, le=1000)
    """Number of equal periods that the validation consists of, evenly spaced in time; the last is before the test."""
    test_days: float = Field(0, ge=0)
    """Length of the test period at the end, in days; it is used only for verification."""
    gap_hours: int = Field(6, ge=0)
    """Hours dropped between the periods, so that no weather system is in two of them."""


class ModelSettings(Group):
    """The neural network and the diffusion process."""

    # The upper bounds keep a model.json from elsewhere from describing a network that is too large to lay out.

    leads: ModelLeads = (1,)
    """Lead times that the model is trained for, in hours; 0 alone is a model that perturbs states (docs/method.md)."""
    history: HistoryLength = 4
    """Number of hourly analyses that the model takes as input, the latest included."""
    base: int = Field(ge=8, le=4096)
    """Number of channels of the first level."""
    multipliers: Multipliers
    """Channels of each level, as multiples of `base`; each level halves the resolution."""
    blocks: int = Field(ge=1, le=16)
    """Number of residual blocks per level."""
    attention: Annotated[tuple[int, ...], Field(max_length=16)]
    """Downsampling factors at which the denoiser has attention."""
    window: int = Field(ge=2, le=128)
    """Side of the attention windows, in tokens."""
    encoder_multipliers: Multipliers = (1, 2)
    """Channels of each level of the condition encoder, as multiples of `base`."""
    encoder_blocks: int = Field(1, ge=1, le=16)
    """Number of residual blocks per level of the condition encoder."""
    unshuffle: int = Field(1, ge=1, le=16)
    """Side of the square of grid cells that is folded into channels before the first level (space-to-depth)."""
    embedding: int = Field(128, ge=8, le=8192)
    """Size of the embedding of noise level, lead time and hour of day."""
    dropout: float = Field(0.1, ge=0, lt=1)
    """Dropout rate in the residual blocks."""
    diffusion_steps: int = Field(ge=10, le=10_000)
    """Number of diffusion steps, T."""
    parameterisation: Literal["spectral", "velocity", "preconditioned", "raw"] = "spectral"
    """Form of the noise prediction. `spectral`: the network corrects a linear prediction from the residuals'
    covariances; `velocity`: the network alone; `preconditioned`: it corrects the encoder's guess; `raw`: no
    preconditioning."""
    reference: dict[str, ReferenceName] = Field({"default": "regression"}, validate_default=True)
    """Reference forecast of each field, with a `default`; the model samples its error (the residual)."""
    inputs: tuple[InputName, ...] = ALL_INPUTS
    """Inputs besides the fields: the hour of day, the height of the sun, and the ground (terrain and land mask)."""
    condition_dropout: float = Field(0.1, ge=0, lt=1)
    """Fraction of training samples without a condition, which classifier-free guidance needs."""
    forcing: Literal["none", "hrrr"] = "none"
    """Forecast that forces the model: `hrrr` is HRRR's forecast valid at the target time."""
    forcing_ages: ForcingAges = Field((0, 1), validate_default=True)
    """Ages in hours of the HRRR cycles that force the model, relative to the init time's own cycle. Training draws
    from all of them; sampling takes the newest that the dataset holds."""
    forcing_dropout: float = Field(0.2, ge=0, lt=1)
    """Fraction of training samples from which the forcing is withheld, so that the same model runs without it."""

    @property
    def forced(self) -> bool:
        """Whether a forecast forces the model."""
        return self.forcing != "none"

    @field_validator("reference")
    @classmethod
    def _check_perturbation(cls, reference: dict[str, ReferenceName], info: ValidationInfo) -> dict[str, ReferenceName]:
        """Check that lead 0 stands alone, and that a state is not predicted by itself."""
        leads = info.data.get("leads", ())
        if 0 in leads and (len(leads) > 1 or set(reference.values()) != {"direct"}):
            raise ValueError(
                'a model of lead 0 perturbs states: leads must be [0], and the reference {default="direct"}'
            )
        return reference

    @field_validator("forcing_ages")
    @classmethod
    def _check_reach(cls, ages: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        """Check that HRRR has forecasts for the leads."""
        leads = info.data.get("leads", ())
        if info.data.get("forcing") != "none" and leads and max(leads) + min(ages) > HRRR_LONGEST_LEAD:
            raise ValueError(
                f"a lead of {max(leads)} h needs an HRRR forecast of {max(leads) + min(ages)} h, and HRRR's end at "
                f"18 h, those of 00, 06, 12 and 18 UTC at {HRRR_LONGEST_LEAD} h"
            )
        return ages


class TrainingSettings(Group):
    """Training of the model."""

    patch: int = Field(ge=16)
    """Grid cells along each side of a training patch; a smaller domain is used whole."""
    augmentation: Literal["none", "flips", "rotations"] = "none"
    """Orientations of training patches: `flips` mirrors them at random, `rotations` also turns them by quarters."""
    convective: float = Field(0.0, ge=0, lt=1)
    """Fraction of patches placed over echoes (20 dBZ) at the init time; the others are placed uniformly."""
    cache: bool = False
    """Unpack the hours into cache/ (27 MB each over CONUS), which makes reading random patches many times faster."""
    workers: int = Field(1, ge=1)
    """Number of threads per process that load samples while the network trains."""
    batch: int = Field(ge=1)
    """Number of samples per step and process."""
    draws: int = Field(1, ge=1)
    """Number of noise levels per sample; the condition is encoded once for all of them."""
    accumulation: int = Field(1, ge=1)
    """Number of batches per optimiser step."""
    steps: int = Field(ge=1)
    """Number of optimiser steps; the learning rate decays to zero along a cosine."""
    minutes: float | None = Field(None, gt=0)
    """Duration of training in minutes, to which the learning-rate schedule is scaled; `steps` is then the maximum."""
    learning_rate: float = Field(gt=0)
    """Peak learning rate."""
    warm_up: int = Field(100, ge=1)
    """Number of steps over which the learning rate rises to its peak."""
    weight_decay: float = Field(0.01, ge=0)
    """Weight decay of the optimiser."""
    clip: float = Field(1.0, gt=0)
    """Maximum norm of the gradient, to which it is clipped."""
    weights: dict[FieldName, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    """Loss weights by field name, where they differ from those of the table of fields."""
    scale_weight: float = Field(0.2, ge=0, le=1)
    """Share of the loss in which all scales count alike; in the rest, scales count as they do in white noise, and
    scales above eight cells hardly at all (docs/method.md). Logs show the loss without this share."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the exponential moving average of the weights, which sampling uses."""
    precision: Precision = "auto"
    """Precision of the network; `auto` is bfloat16 where the processor supports it, and float32 elsewhere. On a GPU the
    factors of float32 convolutions are rounded to TF32, those of matrix products are not."""
    threads: int = Field(2, ge=1)
    """Number of CPU threads per process."""
    recompute: bool = False
    """Recompute activations in the backward pass (gradient checkpointing): less memory, more time."""
    compile: CompileChoice = "auto"
    """Compile the network with torch.compile: `auto` does it on a GPU with Triton and a C compiler, and
    else says what is missing."""
    shard_above: int = Field(400_000_000, ge=0)
    """Number of parameters above which the weights are sharded over processes (FSDP2) instead of copied (DDP)."""
    checkpoint_every: int = Field(500, ge=1)
    """Number of steps between validations, each of which is followed by a checkpoint."""
    checkpoint_minutes: float = Field(15, gt=0)
    """Maximum time between checkpoints, in minutes; those between validations are written with the next log line."""
    patience: int = Field(0, ge=0)
    """Number of validations in a row without a better score after which training ends early; 0 never does."""
    keep: int = Field(2, ge=1)
    """Number of latest checkpoints kept for resuming, besides the best weights."""
    validation_cases: int = Field(16, ge=0)
    """Number of validation cases for which an ensemble is drawn at each checkpoint; 0 draws none."""
    validation_members: int = Field(8, ge=2)
    """Number of members of each validation ensemble."""
    log_every: int = Field(50, ge=1)
    """Number of steps between log lines."""
    seed: int = Field(0, ge=0)
    """Random seed of the initial weights, the patches and the noise."""


DEFAULT_EVALUATIONS = 7
"""Network evaluations that give the CRPS and spread of all T steps (docs/method.md)."""


class SamplingSettings(Group):
    """Sampling of an ensemble."""

    members: int = Field(50, ge=1)
    """Number of members."""
    seed: int = Field(0, ge=0)
    """Random seed of the members' noise."""
    method: Literal["diffusion", "walks"] = "diffusion"
    """How members are made: `diffusion` samples the coming hours; `walks` perturbs the state by another model and steps
    the reference forecast hour by hour (docs/method.md)."""
    walks: int = Field(1, ge=1)
    """Number of perturbations before each hour, for `walks`."""
    perturbation: str = "perturbation"
    """Name of the model that perturbs states, for `walks`."""
    solver: SolverName = "exponential"
    """Solver of the reverse diffusion process."""
    steps: int | None = Field(None, ge=1)
    """Number of network evaluations per member and lead time; if not set, 7, or T for `ddpm`."""
    eta: float = Field(0.0, ge=0, le=1)
    """Noise that `ddim` adds in each step, from none (0) to as much as `ddpm` (1)."""
    guidance: float = Field(1.0, ge=0)
    """w in ε∅ + w (εc - ε∅): 1 is as trained, below 1 leans towards residuals of average spread."""
    batch: int | None = Field(None, ge=1)
    """Number of members drawn together on a GPU (if not set, as many as fit). On a CPU the number follows from the tile
    size, so that members are reproducible."""
    keep: Literal["members", "products", "both"] = "members"
    """Content of stored forecasts: the members, their products only (which cannot be verified by member), or both."""
    memory: float | None = Field(None, gt=0)
    """Maximum memory of sampling in GB, on the GPU or else the machine; if not set, four fifths of the free memory."""
    calibration: bool = False
    """Calibrate members by the maps that `convcast calibrate` learnt; raw/ keeps them as they were drawn."""
    forcing: bool = True
    """Give the forcing to a model that was trained with it; otherwise it is withheld."""
    lead_correlation: float = Field(0.0, ge=0, le=1)
    """Correlation of a member's noise between lead times, which makes members consistent in time."""
    tile: Tile = "auto"
    """Grid cells along each side of a tile; larger domains are sampled in tiles. `auto` is the whole domain on a GPU
    that has the memory, and else 256."""
    overlap: int = Field(64, ge=0)
    """Overlap of neighbouring tiles, in grid cells."""
    precision: Precision = "auto"
    """Precision of the network; `auto` is bfloat16 where the processor supports it, and float32 elsewhere. On a GPU the
    factors of float32 convolutions are rounded to TF32, those of matrix products are not."""
    threads: int = Field(2, ge=1)
    """Number of CPU threads; another number changes the last bits of members."""

    def of_method(self) -> SamplingSettings:
        """Return the settings in force: for `walks`, without forcing and lead correlation, which they do not have."""
        return self.model_copy(update={"forcing": False, "lead_correlation": 0.0} if self.method == "walks" else {})

    def evaluations(self, diffusion_steps: int) -> int:
        """Return the number of network evaluations per member and lead, for a model with this many diffusion steps."""
        if self.steps is not None:
            return self.steps
        return diffusion_steps if self.solver == "ddpm" else min(DEFAULT_EVALUATIONS, diffusion_steps)


class ProductSettings(Group):
    """Products derived from an ensemble's members."""

    quantiles: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.1, 0.5, 0.9)
    """Quantile levels, computed at each point."""
    neighbourhood: float = Field(40.0, gt=0, le=300)
    """Radius of neighbourhood probabilities, in km."""


class Settings(BaseSettings):
    """All settings."""

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
        """Twelve hexadecimal digits that identify these settings."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]
