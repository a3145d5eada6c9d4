"""Layers of the network; none of them computes a statistic over space.

With a normalisation over the domain a pixel's output would depend on the size of the domain. Normalisation here runs
over the channels of one pixel, and attention over windows of a fixed size, so tiles behave as training patches do.
`periodic` says whether the domain is a torus; otherwise it is padded with zeros. Features are (row, channel, y, x), and
embeddings (row, channel).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from convcast.errors import SettingsError

HEAD_WIDTH = 64
"""Channels of an attention head."""


class Convolution(nn.Conv2d):
    """A 3 x 3 convolution that keeps the size (or halves it, with `stride` 2) and may wrap."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, zero: bool = False) -> None:
        """Make the layer.

        Args:
            inputs: Number of input channels.
            outputs: Number of output channels.
            stride: 1, or 2 to halve the size.
            zero: Whether weights and bias start at zero.
        """
        super().__init__(inputs, outputs, 3, stride=stride)
        if zero:
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, periodic: bool) -> Tensor:  # type: ignore[override]
        if periodic:
            wrapped: Tensor = _Wrap.apply(x)
            return functional.conv2d(wrapped, self.weight, self.bias, self.stride)
        return functional.conv2d(x, self.weight, self.bias, self.stride, padding=1)


class _Wrap(torch.autograd.Function):
    """Circular padding by one cell.

    It equals torch's own circular padding and its gradient bit for bit, without copies that take a tenth of a training
    step.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:  # noqa: ARG004
        *rows, ny, nx = x.shape
        out = x.new_empty(*rows, ny + 2, nx + 2)
        out[..., 1:-1, 1:-1] = x
        out[..., 0, 1:-1], out[..., -1, 1:-1] = x[..., -1, :], x[..., 0, :]
        out[..., 0], out[..., -1] = out[..., -2], out[..., 1]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:  # noqa: ARG004
        """Add each margin's gradient to the opposite side."""
        down = gradient[..., 1:-1, :].clone()
        down[..., -1, :] += gradient[..., 0, :]
        down[..., 0, :] += gradient[..., -1, :]
        out = down[..., 1:-1].contiguous()
        out[..., -1] += down[..., 0]
        out[..., 0] += down[..., -1]
        return out


class ChannelNorm(nn.Module):
    """Root-mean-square normalisation over the channels of each pixel (Zhang & Sennrich 2019), without a gain.

    The mean square is float32, and the result has the type of `x`. Autocast would give different types on
    different devices: CUDA's autocast computes norms and roots in float32 and keeps that type, the CPU's does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            if x.is_contiguous(memory_format=torch.channels_last):  # a tenth of the other's time in bfloat16
                norm = torch.linalg.vector_norm(x, dim=1, keepdim=True, dtype=torch.float32)
                power = norm.square() / x.shape[1]
            else:
                power = x.square().mean(dim=1, keepdim=True, dtype=torch.float32)
            return x * torch.rsqrt(power + 1e-5).to(x.dtype)


class ResidualBlock(nn.Module):
    """Normalise, convolve, FiLM by the embedding (Perez et al. 2018), convolve, add; starts as the identity."""

    def __init__(self, inputs: int, outputs: int, embedding: int, dropout: float) -> None:
        """Make the layers.

        Args:
            inputs: Number of input channels.
            outputs: Number of output channels.
            embedding: Number of channels of the embedding.
            dropout: Rate of dropout, 0 to 1.
        """
        super().__init__()
        self.outputs = outputs
        self.norm = ChannelNorm()
        self.first = Convolution(inputs, outputs)
        self.film = nn.Linear(embedding, 2 * outputs)
        self.dropout = nn.Dropout(dropout)
        self.second = Convolution(outputs, outputs, zero=True)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor, periodic: bool) -> Tensor:
        scale, shift = self.film(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.first(functional.silu(self.norm(x)), periodic)
        h = functional.silu(torch.addcmul(shift, h, 1 + scale))
        out: Tensor = self.skip(x) + self.second(self.dropout(h), periodic)
        return out


class WindowAttention(nn.Module):
    """Self-attention within windows of `window` x `window` tokens (Liu et al. 2021), added to its input."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.heads = max(1, channels // HEAD_WIDTH)
        if channels % self.heads:
            raise SettingsError(
                f"{channels} channels cannot be divided among {self.heads} attention heads",
                advice=f"run `convcast train --set model.base={HEAD_WIDTH}`, or with another multiple of {HEAD_WIDTH}",
            )
        self.norm = ChannelNorm()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, ny, nx = x.shape
        side_y, side_x = min(self.window, ny), min(self.window, nx)
        rows, columns = -(-ny // side_y), -(-nx // side_x)
        pad = (0, columns * side_x - nx, 0, rows * side_y - ny)
        qkv, mask = self.qkv(self.norm(x)), None
        if any(pad):
            qkv = functional.pad(qkv, pad)
            inside = functional.pad(torch.ones(1, 1, ny, nx, dtype=torch.bool, device=x.device), pad)
            mask = _windows(inside, 1, rows, columns).transpose(-1, -2).repeat(batch, 1, 1, 1)
        q, k, v = _windows(qkv, 3 * self.heads, rows, columns).chunk(3, dim=1)
        h = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = h.view(batch, rows, columns, self.heads, side_y, side_x, channels // self.heads)
        h = h.permute(0, 3, 6, 1, 4, 2, 5).reshape(batch, channels, rows * side_y, columns * side_x)
        out: Tensor = x + self.out(h[:, :, :ny, :nx])
        return out


def _windows(x: Tensor, heads: int, rows: int, columns: int) -> Tensor:
    """Reshape (batch, channel, y, x) to (batch * window, head, token, channel)."""
    batch, channels, ny, nx = x.shape
    x = x.view(batch, heads, channels // heads, rows, ny // rows, columns, nx // columns)
    x = x.permute(0, 3, 5, 1, 4, 6, 2)
    return x.reshape(batch * rows * columns, heads, (ny // rows) * (nx // columns), channels // heads)


class Embedding(nn.Module):
    """Embedding of a few numbers between -1 and 1: two linear layers of their sines and cosines."""

    def __init__(self, numbers: int, width: int, *, frequencies: int = 8) -> None:
        """Make the layers.

        Args:
            numbers: How many numbers each row has.
            width: Number of channels of the embedding.
            frequencies: How many sines and cosines each number has, an octave apart.
        """
        super().__init__()
        # Arithmetic on the meta device, on which checkpoint.py builds networks, would import torch._dynamo (3 s).
        values = [math.pi * 2.0**octave for octave in range(-1, frequencies - 1)]
        self.register_buffer("frequencies", torch.tensor(values), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(numbers * (2 * frequencies + 1), width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, numbers: Tensor) -> Tensor:
        angles = (numbers[:, :, None] * self.frequencies).flatten(1)  # type: ignore[operator]
        out: Tensor = self.layers(torch.cat([numbers, angles.sin(), angles.cos()], dim=1))
        return out
