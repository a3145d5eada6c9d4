"""Draw the loss of a training by step."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from convcast.pictures.style import finish, styled


def draw_training_curve(
    training: Sequence[tuple[int, float]], validation: Sequence[tuple[int, float]], *, name: str, simulated: bool
) -> bytes:
    """Draw the losses of a training, and return the figure as PNG.

    Args:
        training: Steps, and the mean loss of the training cases since the report before.
        validation: Steps, and the loss of the validation cases.
        name: Name of the model.
        simulated: Whether it learned from simulated weather.
    """
    with styled():
        figure = Figure(figsize=(8.0, 4.2), dpi=110)
        axes = figure.subplots()
        axes.plot(*zip(*training, strict=True), color="#0072b2", marker=".", lw=1.2, label="training cases")
        if validation:
            axes.plot(*zip(*validation, strict=True), color="#b35806", marker="o", ls="none", label="validation cases")
        axes.set(xlabel="step", ylabel="loss of the noise prediction")
        axes.legend()
        return finish(
            figure,
            title=f"Training of {name}",
            note="mean squared error of the predicted noise, whose variance is 1",
            simulated=simulated,
        )
