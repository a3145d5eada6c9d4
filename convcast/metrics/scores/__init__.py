"""The scores, one class each, in the order in which scores.json has them.

To add a score, write its class in a file of this folder and add it to a tuple below; it is then computed, given an
interval and written like the others.
"""

from convcast.metrics.scores.base import EventScore, FieldScore, PointScore
from convcast.metrics.scores.changes import ChangeCrps
from convcast.metrics.scores.crps import EnsembleCrps, FairCrps
from convcast.metrics.scores.energy import EnergyScore
from convcast.metrics.scores.errors import Bias, RootMeanSquaredError
from convcast.metrics.scores.events import (
    BrierReliability,
    BrierResolution,
    BrierScore,
    BrierSkill,
    BrierUncertainty,
    FrequencyBias,
    RocArea,
)
from convcast.metrics.scores.fractions import FractionsSkillScore
from convcast.metrics.scores.neighbourhood_maxima import NeighbourhoodMaxima
from convcast.metrics.scores.spectra import LogSpectralDistance
from convcast.metrics.scores.spread import (
    CentredSpreadErrorRatio,
    Outliers,
    SpreadErrorCorrelation,
    SpreadErrorRatio,
)
from convcast.metrics.scores.storms import StormScores
from convcast.metrics.scores.yes_or_no import CriticalSuccessIndex, ProbabilityOfDetection, SuccessRatio

__all__ = ["EVENT_SCORES", "FIELD_SCORES", "POINT_SCORES"]

POINT_SCORES: tuple[PointScore, ...] = (
    FairCrps(),
    EnsembleCrps(),
    RootMeanSquaredError(),
    Bias(),
    SpreadErrorRatio(),
    SpreadErrorCorrelation(),
    CentredSpreadErrorRatio(),
    Outliers(),
)
EVENT_SCORES: tuple[EventScore, ...] = (
    BrierScore(),
    BrierSkill(),
    BrierReliability(),
    BrierResolution(),
    BrierUncertainty(),
    RocArea(),
    FrequencyBias(),
    CriticalSuccessIndex(),
    ProbabilityOfDetection(),
    SuccessRatio(),
)
FIELD_SCORES: tuple[FieldScore, ...] = (
    NeighbourhoodMaxima(),
    FractionsSkillScore(),
    EnergyScore(),
    LogSpectralDistance(),
    StormScores(),
    ChangeCrps(),
)
