"""Write the measurements of one device as JSON and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from convcast import __version__
from convcast.files import write_bytes, write_json
from convcast.operations.speed.measure import Measurement


def facts(device: torch.device) -> dict[str, Any]:
    """Name the device and the versions that were measured."""
    known: dict[str, Any] = {"device": "CPU", "torch": torch.__version__, "cuda": torch.version.cuda, "GB": None}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        known |= {"device": properties.name, "GB": round(properties.total_memory / 1e9, 1)}
    return known | {"convcast": __version__}


def to_json(known: dict[str, Any], rows: Sequence[Measurement]) -> dict[str, Any]:
    return {**known, "rows": [row.to_dict() for row in rows]}


def to_markdown(known: dict[str, Any], rows: Sequence[Measurement]) -> str:
    """Return the measurements as a table."""
    memory = f", {known['GB']} GB" if known["GB"] else ""
    lines = [
        f"{known['device']}{memory}, torch {known['torch']}, CUDA {known['cuda']}, convcast {known['convcast']}.",
        "",
        "| measured | preset | how | result |",
        "|---|---|---|---|",
    ]
    for row in rows:
        lines.append(f"| {row.name} | {row.preset} | {row.how} | {row.result} |")
    return "\n".join(lines) + "\n"


def write(folder: Path, known: dict[str, Any], rows: Sequence[Measurement]) -> tuple[Path, Path]:
    """Write gpu.json and gpu.md into the folder, and return their paths.

    Args:
        folder: The folder, which is made if it does not exist.
        known: What `facts` returns.
        rows: The measurements.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "gpu.json", to_json(known, rows))
    write_bytes(folder / "gpu.md", to_markdown(known, rows).encode())
    return folder / "gpu.json", folder / "gpu.md"
