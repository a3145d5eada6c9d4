"""Weights in half precision, as the package holds its pretrained model: a file half as large."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors
from safetensors.torch import load_file

from convcast.errors import DamagedFileError
from convcast.model.tensors import FORMAT, read_tensors, write_tensors


def halve(weights: Path, target: Path) -> None:
    """Write the weights of a model in half precision, which moves each by at most 0.05 %.

    Args:
        weights: The weights of a model, float32.
        target: The file to write.
    """
    tensors, facts = read_tensors(weights)
    write_tensors(target, {name: tensor.half() for name, tensor in tensors.items()}, facts)


def restore(halved: Path, target: Path) -> None:
    """Write weights that `halve` wrote as those of a model, float32.

    Args:
        halved: The weights in half precision.
        target: The file to write.

    Raises:
        DamagedFileError: `halved` is missing, damaged or of another version of convcast.
    """
    try:
        with safetensors.safe_open(halved, framework="numpy") as file:
            metadata = file.metadata() or {}
        tensors = load_file(halved)
    except (OSError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{halved} is missing or damaged ({error})", advice="install convcast again") from error
    if metadata.get("format") != FORMAT:
        raise DamagedFileError(f"{halved} belongs to another version of convcast", advice="install convcast again")
    write_tensors(target, {name: tensor.float() for name, tensor in tensors.items()}, json.loads(metadata["facts"]))
