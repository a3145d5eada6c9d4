"""The verification room: scores, baselines, intervals, reports. It needs neither torch nor the model."""

from convcast.verification.evaluate import CaseScored, Evaluation, evaluate
from convcast.verification.results.verification import CaseShown, Facts, Verification

__all__ = ["CaseScored", "CaseShown", "Evaluation", "Facts", "Verification", "evaluate"]
