"""Draw the loss of a training in characters."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

from convcast.files import parse_json

WIDTH, HEIGHT = 64, 10
BESIDE = 23
"""Columns beside the plot: the labels of the losses, and the name of the axis of steps."""
TICKS = 10
"""Characters between two labels of the axis of steps."""
LARGEST = 1e12
"""Largest loss that is drawn; it also excludes infinity and NaN."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read the reports of a training's log, oldest first; damaged lines are skipped."""
    reports = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            report = parse_json(line)
        except ValueError:
            continue
        if isinstance(report, dict) and type(report.get("step")) is int and _is_loss(report):
            reports.append(report)
    return reports


def _is_loss(report: Any) -> bool:
    loss = report.get("loss") if isinstance(report, dict) else None
    return isinstance(loss, float | int) and abs(loss) < LARGEST


def draw_loss(reports: list[dict[str, Any]], *, columns: int = WIDTH + BESIDE) -> str:
    """Draw training and validation loss by step, without colours, in at most `columns` columns, at least 40."""
    from plotille import Figure

    by_step = {report["step"]: report for report in reports}  # the last report counts if a step was trained again
    steps = sorted(by_step)
    width = min(WIDTH, max(40, columns) - BESIDE)
    figure = Figure()
    figure.width, figure.height, figure.with_colors = width, HEIGHT, False
    figure.x_label, figure.y_label = "step", "loss"
    figure.register_label_formatter(
        float, lambda value, chars, **_: f"{value:.{3 if value < 1000 else 9}g}".rjust(chars)
    )
    between = max(1, ceil(steps[-1] / width * TICKS))  # whole steps between two labels
    figure.set_x_limits(min_=0, max_=between * width / TICKS)
    figure.plot(steps, [by_step[step]["loss"] for step in steps], label="training")
    # Logs of older versions have a number instead of an object.
    checked = [step for step in steps if _is_loss(by_step[step].get("validation"))]
    if checked:
        losses = [by_step[step]["validation"]["loss"] for step in checked]
        figure.scatter(checked, losses, label="validation", marker="x")
    drawn: str = figure.show(legend=True)
    return drawn
