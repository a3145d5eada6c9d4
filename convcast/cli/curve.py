"""The course of a training, drawn in characters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convcast.files import parse_json

WIDTH, HEIGHT = 64, 10
LARGEST = 1e12
"""Loss that can be drawn; it also tells infinity and NaN from a loss."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The reports of a training, oldest first; lines that are none, as a killed run leaves one, are passed over."""
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


def draw_loss(reports: list[dict[str, Any]]) -> str:
    """Loss in training and on the validation hours by step, without colours."""
    from plotille import Figure

    by_step = {report["step"]: report for report in reports}  # what was trained again counts as it came out at last
    steps = sorted(by_step)
    figure = Figure()
    figure.width, figure.height, figure.with_colors = WIDTH, HEIGHT, False
    figure.x_label, figure.y_label = "step", "loss"
    figure.register_label_formatter(float, lambda value, chars, **_: f"{value:.3g}".rjust(chars))
    figure.plot(steps, [by_step[step]["loss"] for step in steps], label="training")
    # Logs of models of another version have a number there.
    checked = [step for step in steps if _is_loss(by_step[step].get("validation"))]
    if checked:
        losses = [by_step[step]["validation"]["loss"] for step in checked]
        figure.scatter(checked, losses, label="validation", marker="x")
    drawn: str = figure.show(legend=True)
    return drawn
