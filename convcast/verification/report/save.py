"""Files of a verification: scores.json, scores.zarr, figures and report.html."""

from __future__ import annotations

from pathlib import Path

from convcast import __version__
from convcast.files import sweep, whole_folder, write_bytes, write_json
from convcast.verification.report.figures import draw_figures
from convcast.verification.report.html import render_report
from convcast.verification.results.verification import Verification


def save(verification: Verification, directory: Path) -> list[Path]:
    """Write scores.json, scores.zarr, figures and report.html to a folder.

    scores.json is written last: where it exists, the verification is complete.

    Returns:
        Paths of the files, the report first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sweep(directory, shared=True)
    figures = draw_figures(verification)
    for figure in figures:
        write_bytes(directory / f"{figure.name}.png", figure.png)
    report = directory / "report.html"
    write_bytes(report, render_report(verification, figures).encode())
    _save_zarr(verification, directory / "scores.zarr")
    write_json(directory / "scores.json", verification.to_dict())
    pictures = [directory / f"{figure.name}.png" for figure in figures]
    return [report, *pictures, directory / "scores.zarr", directory / "scores.json"]


def _save_zarr(verification: Verification, path: Path) -> None:
    data = verification.ledger.dataset({variable.name: variable.units for variable in verification.variables})
    data.attrs = {
        "title": "convcast verification by case",
        "convcast_version": __version__,
        "simulated": verification.facts.simulated,
        "members": verification.facts.members,
    }
    with whole_folder(path) as unfinished:
        data.to_zarr(unfinished, mode="w", zarr_format=3, consolidated=False)
