"""Verification of ensembles: scores, baselines, confidence intervals and reports, without torch or the model."""

from convcast.verification.evaluate import CaseScored, Evaluation, evaluate
from convcast.verification.results.verification import CaseShown, Facts, Verification

__all__ = ["CaseScored", "CaseShown", "Evaluation", "Facts", "Verification", "evaluate"]
