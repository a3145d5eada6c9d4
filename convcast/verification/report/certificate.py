"""Make the HTML page of a certificate."""

from __future__ import annotations

from typing import Any

from convcast.text import page_templates
from convcast.variables import FIELDS
from convcast.verification.results.certificate import TOLERANCES, widest_interval
from convcast.verification.results.formats import interval, number, system_name


def render_certificate(certificate: dict[str, Any]) -> str:
    """Return the HTML page of a certificate that `convcast.verification.results.certificate.certify` made."""
    environment = page_templates("convcast.verification.report")
    environment.globals |= {"event": _event, "number": number, "interval": interval, "system_name": system_name}
    environment.globals |= {"tolerance": _tolerance}
    return environment.get_template("certificate.html.jinja").render(**certificate)


def _event(row: dict[str, Any]) -> str:
    if "regime" in row:
        return f"regime {row['regime']}"
    return FIELDS[row["field"]].event(row["threshold"]) if "threshold" in row else ""


def _tolerance(score: str) -> str:
    """Describe when a ratio is reliable: by its value, and by its interval."""
    value, bounds = ("{:.2f} to {:.2f}".format(*ends) for ends in (TOLERANCES[score], widest_interval(score)))
    return f"the value is {value} and its interval within {bounds}"
