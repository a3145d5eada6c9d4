"""The header of a file is checked before its tensors take memory, and digests distinguish models."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from convcast.errors import DamagedFileError
from convcast.model.tensors import FORMAT, digest, read_header, read_tensors, write_tensors

TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(1.5), "none": torch.zeros(0, 4)}


def sparse(path, shape, *, header=None, dtype="F32"):
    """A file that says it holds one tensor of this shape, and takes no room on the disk."""
    size = 4
    for side in shape:
        size *= side
    tensor = {"dtype": dtype, "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": {"format": FORMAT, "facts": "{}"}, "a": tensor}).encode()
    path.write_bytes(struct.pack("<Q", len(text) if header is None else header) + text)
    with open(path, "rb+") as file:
        file.truncate(8 + len(text) + size)


def test_tensors_have_one_digest_whatever_their_order(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, dict(reversed(TENSORS.items())), {"step": 3})
    found, facts = read_tensors(path)
    assert facts == {"step": 3}
    assert digest(found) == digest(TENSORS) == digest(dict(reversed(TENSORS.items())))


@pytest.mark.parametrize(
    "other",
    [
        {**TENSORS, "b": torch.arange(6.0).reshape(3, 2)},
        {**TENSORS, "b": torch.arange(6.0).reshape(2, 3).to(torch.int32).view(torch.float32)},
        {**TENSORS, "b": TENSORS["b"].view(torch.int32)},
        {**TENSORS, "b": TENSORS["b"] + torch.tensor([0, 0, 1e-6])},
        {"c" if name == "b" else name: tensor for name, tensor in TENSORS.items()},
        {name: tensor for name, tensor in TENSORS.items() if name != "none"},
    ],
    ids=["shape", "bits", "type", "a value", "name", "fewer"],
)
def test_other_tensors_have_another_digest(other):
    assert digest(other) != digest(TENSORS)


def test_a_tensor_s_layout_in_memory_is_not_its_identity():
    tensor = torch.randn(2, 3, 4, 5)
    assert digest({"a": tensor.to(memory_format=torch.channels_last)}) == digest({"a": tensor})


def test_the_header_of_32_gigabytes_is_read_and_they_are_not(tmp_path):
    path = tmp_path / "a.safetensors"
    sparse(path, (8, 1 << 30))
    assert read_header(path).shapes == {"a": (8, 1 << 30)}


@pytest.mark.parametrize("header", [0, 1 << 35, (1 << 64) - 1])
def test_a_header_of_an_absurd_length_is_refused(tmp_path, header):
    path = tmp_path / "a.safetensors"
    sparse(path, (8, 1 << 30), header=header)
    with pytest.raises(DamagedFileError):
        read_header(path)


@pytest.mark.parametrize("facts", ["[" * 100_000, "{", "[]", "9" * 5000], ids=["deep", "torn", "list", "long"])
def test_facts_that_are_none_are_refused(tmp_path, facts):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"format": FORMAT, "facts": facts})
    with pytest.raises(DamagedFileError):
        read_header(path)


def test_types_that_convcast_does_not_write_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1, dtype=torch.float64)}, path, {"format": FORMAT, "facts": "{}"})
    with pytest.raises(DamagedFileError, match="does not write"):
        read_header(path)
    for data in (b"", b"{}", bytes(100)):
        path.write_bytes(data)
        with pytest.raises(DamagedFileError):
            read_header(path)
