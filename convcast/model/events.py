"""The training's course as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path

from convcast.model.progress import TrainingProgress

EVENTS = "events"


class Events:
    """Writes to events/ of a model; `tensorboard --logdir` shows it."""

    def __init__(self, directory: Path, step: int) -> None:
        """What an earlier run wrote beyond `step`, from which training goes on, is hidden by TensorBoard."""
        from tensorboardX import SummaryWriter  # two seconds of imports that sampling does without

        self._writer = SummaryWriter(str(directory / EVENTS), purge_step=step, flush_secs=30)

    def write(self, report: TrainingProgress) -> None:
        named = {
            "loss/all": report.loss,
            **{f"loss/field/{name}": value for name, value in report.fields.items()},
            **{f"loss/noise_level/{number}": value for number, value in enumerate(report.levels)},
            "loss/guess": report.guess,
            "training/learning_rate": report.learning_rate,
            "training/gradient_norm": report.gradient,
            "training/samples_per_second": report.samples_per_second,
        }
        if report.validation is not None:
            named["validation/loss"] = report.validation.loss
            named["validation/score"] = report.validation.score
            for name, skill in report.validation.fields.items():
                named[f"validation/crps/{name}"] = skill.crps
                named[f"validation/spread_error/{name}"] = skill.spread_error
                for regime, value in skill.correlation.items():
                    if value is not None:
                        named[f"validation/correlation/{regime}/{name}"] = value
        for name, value in named.items():
            self._writer.add_scalar(name, value, report.step)
        self._writer.flush()
