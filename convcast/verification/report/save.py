"""Files of a verification: scores.json, scores.zarr, figures, report.html, certificate.html and certificate.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convcast import __version__
from convcast.files import sweep, whole_folder, write_bytes, write_json
from convcast.verification.report.certificate import render_certificate
from convcast.verification.report.figures import draw_figures
from convcast.verification.report.html import render_report
from convcast.verification.results.certificate import certify
from convcast.verification.results.verification import Verification


def save(verification: Verification, directory: Path, commands: Sequence[str] = ()) -> list[Path]:
    """Write scores.json, scores.zarr, figures, report.html and the certificate to a folder.

    scores.json is written last: where it exists, the verification is complete.

    Args:
        verification: The scores.
        directory: The folder.
        commands: Command lines that made them, for the certificate.

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
    certificate = certify(verification, commands)
    write_json(directory / "certificate.json", certificate)
    write_bytes(directory / "certificate.html", render_certificate(certificate).encode())
    _save_zarr(verification, directory / "scores.zarr")
    write_json(directory / "scores.json", verification.to_dict())
    pictures = [directory / f"{figure.name}.png" for figure in figures]
    return [report, *pictures, directory / "scores.zarr", directory / "scores.json"]


def _save_zarr(verification: Verification, path: Path) -> None:
    data = verification.accumulator.dataset({variable.name: variable.units for variable in verification.variables})
    data.attrs = {
        "title": "convcast verification by case",
        "convcast_version": __version__,
        "simulated": verification.facts.simulated,
        "members": verification.facts.members,
    }
    with whole_folder(path) as unfinished:
        data.to_zarr(unfinished, mode="w", zarr_format=3, consolidated=False)
