"""Tensors in safetensors files, which cannot run code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from convcast.errors import TRAIN_ANOTHER, DamagedFileError
from convcast.files import parse_json, write_bytes

FORMAT = "convcast model 12"
Shape = tuple[int, ...]


@dataclass(frozen=True)
class SafetensorsHeader:
    """Header of a safetensors file: the tensors' shapes and the metadata; all tensors are float32."""

    shapes: dict[str, Shape]
    facts: dict[str, Any]


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values, in the order of the names.

    Two files of the same tensors may differ in their bytes, since safetensors writes its metadata in any order.
    """
    hasher = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        hasher.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        plain = tensor.detach().to("cpu").contiguous()
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a safetensors file with `facts` as JSON in its header, atomically.

    Args:
        path: The file, which is replaced if it exists.
        tensors: Tensors by name, on any device.
        facts: Values that JSON can hold.
    """
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(plain, {"format": FORMAT, "facts": json.dumps(facts)}))


def read_header(path: Path, *, advice: str = TRAIN_ANOTHER) -> SafetensorsHeader:
    """Read the header without allocating the tensors, however large the header says that they are.

    Raises:
        DamagedFileError: The file is missing, damaged or was not written by convcast.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is not a mapping
            shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
            others = {part.get_dtype() for part in parts.values()} - {"F32"}
        if metadata.get("format") != FORMAT:
            raise DamagedFileError(f"{path} was not written by convcast", advice=advice)
        facts = parse_json(metadata["facts"])
        if others or not isinstance(facts, dict):
            raise DamagedFileError(f"{path} has contents that convcast does not write", advice=advice)
        return SafetensorsHeader(shapes, facts)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise DamagedFileError(f"{path} is missing or damaged ({error})", advice=advice) from error


def read_tensors(path: Path, *, advice: str = TRAIN_ANOTHER) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and facts; check the shapes by `read_header` before, since tensors take memory.

    Raises:
        DamagedFileError: The file is missing, damaged or was not written by convcast.
    """
    facts = read_header(path, advice=advice).facts
    try:
        return load_file(path), facts
    except (OSError, safetensors.SafetensorError) as error:
        raise DamagedFileError(f"{path} is missing or damaged ({error})", advice=advice) from error
