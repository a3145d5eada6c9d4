"""The network: an encoder of the condition, run once for each forecast, and a denoiser, run at each step and member.

Features `h` are (row, channel, y, x), and embeddings (row, channel). `periodic` says whether the domain is a torus;
otherwise it is padded with zeros.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from convcast.model.network.layers import ChannelNorm, Convolution, Embedding, ResidualBlock, WindowAttention
from convcast.settings import ModelSettings

MIN_SCALE = 0.05
"""Minimum of the encoder's guess of a residual's standard deviation, in units of that over all pixels."""


@dataclass(frozen=True)
class Encoded:
    """The encoded condition, with one row for all members or one for each."""

    features: Tensor
    """Features of the encoder's first level, (row, channel, y, x)."""
    embedding: Tensor
    """Embedding of lead and hour, (row, channel)."""
    mean: Tensor
    """The encoder's guess of the residual's mean, (row, field, y, x)."""
    scale: Tensor
    """The encoder's guess of the residual's standard deviation, (row, field, y, x)."""

    def blanked(self, blank: Tensor | bool) -> Encoded:
        """Withhold the condition in the rows where `blank` (row, 1, 1, 1) is true: mean 0, scale 1, no features."""
        if isinstance(blank, bool):
            blank = torch.full((1, 1, 1, 1), blank, device=self.mean.device)
        return Encoded(
            self.features.masked_fill(blank, 0),
            self.embedding.masked_fill(blank[:, :, 0, 0], 0),
            self.mean.masked_fill(blank, 0),
            self.scale.masked_fill(blank, 1),
        )

    def detached_guess(self) -> Encoded:
        """Detach the guess from the gradient."""
        return Encoded(self.features, self.embedding, self.mean.detach(), self.scale.detach())

    def without_guess(self) -> Encoded:
        """Replace the guess by mean 0 and scale 1."""
        return Encoded(self.features, self.embedding, torch.zeros_like(self.mean), torch.ones_like(self.scale))

    def repeated(self, times: int) -> Encoded:
        """Repeat each row."""
        parts = (self.features, self.embedding, self.mean, self.scale)
        return Encoded(*(part.repeat_interleave(times, dim=0) for part in parts))


class Stage(nn.Module):
    """A residual block, followed by attention where the level has it."""

    def __init__(self, block: ResidualBlock, window: int | None) -> None:
        super().__init__()
        self.block = block
        self.attention = None if window is None else WindowAttention(block.outputs, window)

    def forward(self, h: Tensor, embedding: Tensor, periodic: bool) -> Tensor:
        h = self.block(h, embedding, periodic)
        return h if self.attention is None else self.attention(h)


class Downsample(nn.Module):
    """Halving of the resolution by a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = Convolution(channels, channels, stride=2)

    def forward(self, h: Tensor, embedding: Tensor, periodic: bool) -> Tensor:  # noqa: ARG002
        out: Tensor = self.convolution(h, periodic)
        return out


class Upsample(nn.Module):
    """Doubling of the resolution by nearest neighbours and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = Convolution(channels, channels)

    def forward(self, h: Tensor, embedding: Tensor, periodic: bool) -> Tensor:  # noqa: ARG002
        out: Tensor = self.convolution(functional.interpolate(h, scale_factor=2.0), periodic)
        return out


class UNet(nn.Module):
    """U-Net of residual blocks with skip connections (Ronneberger et al. 2015, Ho et al. 2020)."""

    def __init__(
        self,
        inputs: int,
        base: int,
        multipliers: tuple[int, ...],
        *,
        blocks: int,
        attention: tuple[int, ...],
        window: int,
        downsampling: int,
        embedding: int,
        dropout: float,
    ) -> None:
        """Make the layers.

        Args:
            inputs: Number of input channels.
            base: Number of channels to which `multipliers` refer.
            multipliers: Channels of each level, as multiples of `base`; each level halves the resolution.
            blocks: Number of residual blocks per level on the way down; there is one more on the way up.
            attention: Sides of the pixels, cells, of the levels that have attention.
            window: Side of the attention windows, pixels.
            downsampling: Side of a pixel of the first level, cells.
            embedding: Number of channels of the embedding.
            dropout: Rate of dropout, 0 to 1.
        """
        super().__init__()

        def stage(inputs: int, outputs: int, level: int) -> Stage:
            attends = downsampling * 2**level in attention
            return Stage(ResidualBlock(inputs, outputs, embedding, dropout), window if attends else None)

        widths = [base * multiplier for multiplier in multipliers]
        self.width = widths[0]
        """Number of output channels."""
        skips, channels, last = [inputs], inputs, len(widths) - 1
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            if level > 0:
                self.down.append(Downsample(channels))
                skips.append(channels)
            for _ in range(blocks):
                self.down.append(stage(channels, width, level))
                skips.append(width)
                channels = width
        plain = Stage(ResidualBlock(channels, channels, embedding, dropout), None)
        self.middle = nn.ModuleList([stage(channels, channels, last), plain])
        for level in range(last, -1, -1):
            for _ in range(blocks + 1):
                self.up.append(stage(channels + skips.pop(), widths[level], level))
                channels = widths[level]
            if level > 0:
                self.up.append(Upsample(channels))
        self.norm = ChannelNorm()
        self.recompute = False

    def forward(self, h: Tensor, embedding: Tensor, periodic: bool) -> Tensor:
        """Compute `width` features from `inputs` channels; sides must halve evenly at each level.

        Args:
            h: Features of the first level, (row, channel, y, x).
            embedding: Embedding of the numbers of each row, (row, channel).
            periodic: Whether the domain is a torus; otherwise it is padded with zeros.
        """
        skips = [h]
        for part in self.down:
            h = self._run(part, h, embedding, periodic)
            skips.append(h)
        for part in self.middle:
            h = self._run(part, h, embedding, periodic)
        for part in self.up:
            skipped = (skips.pop(),) if isinstance(part, Stage) else ()
            h = self._run(part, h, embedding, periodic, *skipped)
        return functional.silu(self.norm(h))

    def receptive_radius(self, downsampling: int) -> int:
        """Return the distance, cells, of an output's farthest input; a pixel of `h` has `downsampling` cells a side."""
        cells, scale = 0, downsampling
        for part in (*self.down, *self.middle, *self.up):
            if isinstance(part, Downsample):
                cells, scale = cells + scale, 2 * scale
            elif isinstance(part, Upsample):
                scale //= 2
                cells += 2 * scale  # the nearest coarse pixel, and the convolution
            else:
                assert isinstance(part, Stage)
                cells += 2 * scale
                cells += 0 if part.attention is None else (part.attention.window - 1) * scale
        return cells

    def _run(self, part: nn.Module, h: Tensor, embedding: Tensor, periodic: bool, *skipped: Tensor) -> Tensor:
        """Run a part; with `recompute`, its activations are not kept for the backward pass."""

        def run(h: Tensor, *skipped: Tensor) -> Tensor:
            out: Tensor = part(torch.cat([h, *skipped], dim=1) if skipped else h, embedding, periodic)
            return out

        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(run, h, *skipped, use_reentrant=False)
            return again
        return run(h, *skipped)


class Network(nn.Module):
    """The network: `encode` runs once for each forecast, `forward` at every noise level."""

    def __init__(self, fields: int, conditions: int, settings: ModelSettings, *, numbers: int = 3) -> None:
        """Make the layers; those that write the output start at zero.

        Args:
            fields: Number of fields.
            conditions: Number of channels of the condition (convcast.model.features.condition.channel_count).
            settings: Settings of the model.
            numbers: How many numbers each row has: lead, sine and cosine of the hour, and with forcing its age.
        """
        super().__init__()
        self.fields = fields
        self.unshuffle = settings.unshuffle
        self.multiple = settings.unshuffle * 2 ** (len(settings.multipliers) - 1)
        width, area, base = settings.embedding, settings.unshuffle**2, settings.base

        self.numbers = Embedding(numbers, width)
        self.read_condition = Convolution(conditions * area, base)
        self.encoder = UNet(
            base,
            base,
            settings.encoder_multipliers,
            blocks=settings.encoder_blocks,
            attention=(),
            window=settings.window,
            downsampling=settings.unshuffle,
            embedding=width,
            dropout=settings.dropout,
        )
        self.guess = Convolution(self.encoder.width, 2 * fields * area, zero=True)

        self.noise_level = Embedding(1, width)
        self.read_state = Convolution(fields * area, base)
        self.denoiser = UNet(
            base + self.encoder.width,
            base,
            settings.multipliers,
            blocks=settings.blocks,
            attention=settings.attention,
            window=settings.window,
            downsampling=settings.unshuffle,
            embedding=width,
            dropout=settings.dropout,
        )
        self.write = Convolution(self.denoiser.width, fields * area, zero=True)

    def receptive_radius(self) -> int:
        """Return the distance, cells, of the farthest input, condition included, on which a pixel can depend.

        Attention is counted with its windows in the worst position.
        """
        scale = self.unshuffle
        # The first and last convolutions of both networks, and the cells that are folded into one pixel.
        ends = 4 * scale + 2 * (scale - 1)
        return self.encoder.receptive_radius(scale) + self.denoiser.receptive_radius(scale) + ends

    def recompute(self, wanted: bool) -> None:
        """Set whether training recomputes activations instead of storing them (Chen et al. 2016, arXiv 1604.06174)."""
        self.encoder.recompute = self.denoiser.recompute = wanted

    def encode(self, condition: Tensor, numbers: Tensor, *, periodic: bool) -> Encoded:
        """Encode the condition, which does not change from one noise level to the next.

        Args:
            condition: The condition, (row, channel, y, x).
            numbers: Numbers between -1 and 1, (row, number).
            periodic: Whether the domain is a torus; otherwise it is padded with zeros.
        """
        ny, nx = condition.shape[-2:]
        embedding = self.numbers(numbers)
        h = self.encoder(self.read_condition(self._fold(condition, periodic), periodic), embedding, periodic)
        guess = functional.pixel_shuffle(self.guess(h, periodic), self.unshuffle)[:, :, :ny, :nx].float()
        mean, log_scale = guess.chunk(2, dim=1)
        scale = MIN_SCALE + (1 - MIN_SCALE) * functional.softplus(log_scale + math.log(math.e - 1))
        return Encoded(h, embedding, mean, scale)

    def forward(self, x: Tensor, level: Tensor, encoded: Encoded, *, periodic: bool) -> Tensor:
        """Compute the raw output F of the network, (row, field, y, x), float32.

        Args:
            x: States of unit variance, (row, field, y, x).
            level: Noise levels, 0 to 1, (row,).
            encoded: The encoded condition, with one row for all states or one for each of them.
            periodic: Whether the domain is a torus; otherwise it is padded with zeros.
        """
        ny, nx = x.shape[-2:]
        embedding = self.noise_level(level[:, None]) + encoded.embedding
        h = self.read_state(self._fold(x, periodic), periodic)
        h = torch.cat([h, encoded.features.expand(len(h), -1, -1, -1)], dim=1)
        h = self.write(self.denoiser(h, embedding, periodic), periodic)
        return functional.pixel_shuffle(h, self.unshuffle)[:, :, :ny, :nx].float()

    def _fold(self, x: Tensor, periodic: bool) -> Tensor:
        """Pad to a size that halves evenly, and fold cells into channels."""
        ny, nx = x.shape[-2:]
        pad = (0, -nx % self.multiple, 0, -ny % self.multiple)
        if any(pad):
            x = functional.pad(x, pad, mode="circular" if periodic else "constant")
        return functional.pixel_unshuffle(x, self.unshuffle)
