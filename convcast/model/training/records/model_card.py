"""MODEL_CARD.md, which describes a model and its limits for people (Mitchell et al. 2019, arXiv 1810.03993)."""

from __future__ import annotations

from pathlib import Path

from convcast.errors import DamagedFileError
from convcast.files import read_json
from convcast.model.checkpoint import ModelDescription
from convcast.model.skill import Validation
from convcast.settings import DEFAULT_EVALUATIONS
from convcast.text import markdown
from convcast.variables import FIELDS

NOT_MEASURED = "not measured; `convcast check --gpu` measures a card"


def speed(directory: Path, description: ModelDescription) -> str:
    """Return what gpu.json in the model's folder says of a network of its preset, if there is one."""
    preset = description.settings.get("preset")
    try:
        found = read_json(directory / "gpu.json")
        seconds = [
            (float(row["values"][f"s a member, {DEFAULT_EVALUATIONS} evaluations"]), str(row["how"]))
            for row in found["rows"]
            if row["name"] == "member" and row["preset"] == preset and row["values"]
        ]
        least, how = min(seconds)
        name = markdown(str(found["device"]))
    except (DamagedFileError, FileNotFoundError, KeyError, TypeError, ValueError):
        return NOT_MEASURED
    return f"{name}: {least:.2g} s a member over CONUS in {markdown(how)} with preset {preset}"


def card(name: str, description: ModelDescription, speed: str = NOT_MEASURED) -> str:
    """Return the card as Markdown.

    Args:
        name: Name of the model.
        description: The model.
        speed: What `speed` returns.
    """
    d, model = description, description.model
    parameters = d.parameters
    world = "SIMULATED weather: it has seen no real atmosphere" if d.simulated else "HRRR analyses"
    if d.analysis_lead and not d.simulated:
        world = f"HRRR {d.analysis_lead}-hour forecasts, taken for analyses"
    first, last = d.training_hours
    references = ", ".join(f"{v.name} {r}" for v, r in zip(d.variables, d.residuals.references, strict=True))
    counts = {part: d.split[part]["hours"] for part in ("training", "validation", "test")}
    loss = "none" if d.validation is None else f"{d.validation.loss:.4f}"
    chosen = "" if d.steps == d.trained else f" (the weights are of step {d.steps}, the best on the validation hours)"
    return f"""\
# Model card: {markdown(name)}

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
| forced by | {_forcing(d)} |
| reference forecast | {references} |
| parameters | {parameters / 1e6:.2f} million |
| diffusion steps | {model.diffusion_steps}, {model.parameterisation} noise prediction |
| training | {d.trained} steps{chosen}, {d.minutes:.1f} minutes, settings {d.settings_digest} |
| loss on the validation hours | {loss} |
| speed on a GPU | {speed} |
{_scores(d)}
## Limits

- It was trained and checked on the hours, the grid and the leads above, and on nothing else.
- A model that is better than persistence on a few validation hours need not be elsewhere. `convcast verify` reports \
scores on other days, beside baselines and with intervals over days.
- Probabilities of weather that its training hours lack (strong storms, other seasons) are extrapolated.
- Its members are statistical samples and obey no physical budget.
{_inherited(d)}\
- It is a research tool. Warnings are the business of the national weather services.
"""


def _forcing(description: ModelDescription) -> str:
    """Return where the forcing comes from."""
    forcing = description.forcing
    if forcing is None:
        return "nothing: it knows only what is inside the domain"
    source = "the simulated publisher's forecasts" if description.simulated else "HRRR's forecasts"
    ages = ", ".join(map(str, forcing.ages))
    return (
        f"{source} valid at the target time, from cycles {ages} h old (leads {', '.join(map(str, forcing.hrrr_leads))} "
        f"h); withheld from {description.model.forcing_dropout:.0%} of the training samples, so that it runs without"
    )


def _inherited(description: ModelDescription) -> str:
    """Return the limit that forcing brings; empty without forcing."""
    if description.forcing is None:
        return ""
    return (
        "- It inherits the errors of the forecasts that force it, and was fitted to their version: a storm that they "
        "misplace or miss misleads its members.\n"
    )


def _scores(description: ModelDescription) -> str:
    """Return the section on the validation ensembles, empty if there are none."""
    validation = description.validation
    if validation is None or not validation.fields:
        return ""
    units = {variable.name: variable.units for variable in description.variables}
    rows = "\n".join(
        f"| {name} ({units[name]}) | {skill.crps:.3g} [{skill.low:.3g}, {skill.high:.3g}] | {skill.persistence:.3g} "
        f"| {skill.spread_error:.2f} | {_number(skill.rmse_ratio)} | {_number(skill.log_spectral_distance)} "
        f"| {' | '.join(_number(value) for value in skill.correlation.values())} |"
        for name, skill in validation.fields.items()
    )
    regimes = " | ".join(next(iter(validation.fields.values())).correlation)
    return f"""
## On the validation hours

Ensembles of {validation.members} members for {validation.cases} cases from {validation.first} to {validation.last} \
UTC. CRPS is the fair estimator, its interval a 95 % bootstrap over the cases, which are hours of few days and so tell \
less than their number.
Beside it the mean absolute error of persistence, spread over error, the root mean square error of the ensemble mean \
over that of the reference forecast (above 1, the network makes the mean worse), the log-spectral distance of members \
and observation, and the correlation of spread with absolute error over the points of each regime at the initial hour \
(unstable: CAPE of 1000 J/kg or more; echo: 20 dBZ within 39 km).

| field | CRPS | persistence | spread/error | RMSE of mean/reference | spectra, dB | {regimes} |
|---|---|---|---|---|---|{"---|" * (regimes.count("|") + 1)}
{rows}
{_biases(validation)}"""


def _biases(validation: Validation) -> str:
    """Return the table of frequency biases of fields with a floor, empty if there are none."""
    rows = "".join(
        f"| {name} {'any' if event.threshold is None else f'≥ {event.threshold:g}'} | {event.lead} "
        f"| {100 * event.observed:.2g} | {_number(event.bias)} |\n"
        for name, skill in validation.fields.items()
        if FIELDS[name].floor is not None
        for event in skill.events
    )
    if not rows:
        return ""
    return f"""
How often an event is forecast over how often it was observed:

| event | lead, h | observed, % of points | frequency bias |
|---|---|---|---|
{rows}"""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
