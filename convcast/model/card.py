"""MODEL_CARD.md: what a model is and is not, for people (Mitchell et al. 2019, arXiv 1810.03993)."""

from __future__ import annotations

from pathlib import Path

from convcast.files import write_bytes
from convcast.model.checkpoint import CARD, Description


def write_card(directory: Path, description: Description) -> None:
    write_bytes(directory / CARD, card(directory.name, description).encode())


def card(name: str, description: Description) -> str:
    """The card's text, Markdown."""
    d, model = description, description.model
    parameters = d.parameters
    world = "SIMULATED weather: it has seen no real atmosphere" if d.simulated else "HRRR analyses"
    if d.analysis_lead and not d.simulated:
        world = f"HRRR {d.analysis_lead}-hour forecasts, taken for analyses"
    first, last = d.training_hours
    references = ", ".join(f"{v.name} {r}" for v, r in zip(d.variables, d.departures.references, strict=True))
    counts = {part: d.split[part]["hours"] for part in ("training", "validation", "test")}
    score = "none" if d.validation is None else f"{d.validation:.4f}"
    return f"""\
# Model card: {name}

A conditional diffusion model that draws ensembles of the coming hours (convcast {d.version}).

| | |
|---|---|
| trained on | {world} |
| hours | {first} to {last} UTC: {counts["training"]} for training, {counts["validation"]} for validation, \
{counts["test"]} kept for tests |
| grid | {d.grid.ny} x {d.grid.nx} cells of {d.spacing / 1000:g} km, first row {d.grid.y0}, first column {d.grid.x0} |
| fields | {" ".join(v.name for v in d.variables)} |
| leads | {", ".join(str(lead) for lead in model.leads)} h |
| sees | the last {model.history} hours of its fields, terrain and land, sun, hour of day, lead |
| departs from | {references} |
| parameters | {parameters / 1e6:.2f} million |
| diffusion steps | {model.diffusion_steps}, {model.parameterisation} noise prediction |
| training | {d.steps} steps, {d.minutes:.1f} minutes, settings {d.settings_digest} |
| loss on the validation hours | {score} |

## Limits

- It was trained and checked on the hours, the grid and the leads above, and on nothing else.
- The loss is not a forecast score. Scores with intervals, beside baselines, are what `convcast verify` reports.
- Probabilities of what is rarer than its training hours show (strong storms, other seasons) are extrapolated.
- Its members are statistical samples and obey no physical budget.
- It is a research tool. Warnings are the business of the national weather services.
"""
