"""Log of a training, in log.jsonl and as TensorBoard event files."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from convcast.files import append_line, parse_json
from convcast.model.checkpoint import LOG
from convcast.model.training.records.progress import TrainingProgress

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

EVENTS = "events"


class TrainingLog:
    """Writes reports to events/ (for `tensorboard --logdir`) and then to log.jsonl."""

    def __init__(self, directory: Path, step: int, last: TrainingProgress | None) -> None:
        """Continue after `step`, whose report `last` is written if it is missing.

        Later lines of an earlier run are removed from the log and hidden in TensorBoard.

        Args:
            directory: The folder of the model.
            step: Number of steps of the training so far.
            last: Report of that step, if one was due.
        """
        self._directory = directory
        logged = _cut(directory / LOG, step)
        self._hidden_from = step + 1 if logged == step else step
        self._writer: SummaryWriter | None = None
        if last is not None and logged != step:
            self.write(last)

    def write(self, report: TrainingProgress) -> None:
        """Write a report; the log's line comes last, so that its events exist if the line does."""
        self._write_events(report)
        append_line(self._directory / LOG, asdict(report))

    def _write_events(self, report: TrainingProgress) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter  # takes two seconds, and sampling does not need it

            folder = str(self._directory / EVENTS)
            self._writer = SummaryWriter(folder, purge_step=self._hidden_from, flush_secs=30)
        named = {
            "loss/all": report.loss,
            **{f"loss/field/{name}": value for name, value in report.fields.items()},
            **{f"loss/noise_level/{number}": value for number, value in enumerate(report.levels)},
            "loss/guess": report.guess,
            "training/learning_rate": report.learning_rate,
            "training/gradient_norm": report.gradient,
            "training/samples_per_second": report.samples_per_second,
            "training/waiting": report.waiting,
        }
        if report.validation is not None:
            named["validation/loss"] = report.validation.loss
            named["validation/score"] = report.validation.score
            for name, skill in report.validation.fields.items():
                named[f"validation/crps/{name}"] = skill.crps
                named[f"validation/spread_error/{name}"] = skill.spread_error
                if skill.rmse_ratio is not None:
                    named[f"validation/rmse_of_mean_over_reference/{name}"] = skill.rmse_ratio
                if skill.log_spectral_distance is not None:
                    named[f"validation/log_spectral_distance/{name}"] = skill.log_spectral_distance
                for event in skill.events:
                    if event.bias is not None:
                        what = "any" if event.threshold is None else f"{event.threshold:g}"
                        named[f"validation/frequency_bias/{name}/{what}/{event.lead}h"] = event.bias
                for regime, value in skill.correlation.items():
                    if value is not None:
                        named[f"validation/correlation/{regime}/{name}"] = value
        for name, value in named.items():
            self._writer.add_scalar(name, value, report.step)
        self._writer.flush()


def _cut(log: Path, step: int) -> int | None:
    """Truncate the log before its first line of a later step, or before an incomplete line.

    Returns the step of the last line that remains.
    """
    if not log.is_file():
        return None
    size, last = 0, None
    with open(log, "rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            try:
                number = parse_json(line)["step"]
                if number > step:
                    break
                last = int(number)
            except (KeyError, TypeError, ValueError):
                pass  # a line that an earlier run left incomplete, which readers skip
            size += len(line)
    if size < log.stat().st_size:
        os.truncate(log, size)
    return last
