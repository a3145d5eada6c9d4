"""Spectral operators on a doubly periodic grid: correlated noise, memory, displacement and winds.

Wavelengths are in cells, so that scales and memory do not depend on the size of the domain.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

MAX_MEMORY = 14.0  # hours, at wavelengths of 64 cells and more: consecutive days differ
MAX_MEMORY_WAVELENGTH = 64.0  # cells
MIN_MEMORY = 1.0  # hours, at the shortest wavelength of a grid
MIN_MEMORY_WAVELENGTH = 2.0  # cells


class Spectra:
    """Spectral operators of a periodic grid of `ny` by `nx` square cells of `spacing` metres."""

    def __init__(self, ny: int, nx: int, spacing: float) -> None:
        self.shape = (ny, nx)
        self._ky = fft.fftfreq(ny)  # cycles per cell
        self._kx = fft.rfftfreq(nx)
        wavenumber = np.hypot(self._ky[:, None], self._kx)
        self.wavenumber: Array = wavenumber
        # The derivative of a real field has no Nyquist component.
        dy = np.where(np.abs(self._ky) < 0.5, self._ky, 0.0)[:, None] * (2 * np.pi / spacing)
        dx = np.where(self._kx < 0.5, self._kx, 0.0) * (2 * np.pi / spacing)
        self._dy: Complex = np.asarray(1j * dy, dtype=np.complex128)
        self._dx: Complex = np.asarray(1j * dx, dtype=np.complex128)
        laplacian = -(dx**2 + dy**2)
        self._differentiable = (np.abs(self._ky) < 0.5)[:, None] & (self._kx < 0.5) & (wavenumber > 0)
        self._inverse_laplacian: Array = np.where(
            self._differentiable, 1 / np.where(laplacian < 0, laplacian, -1.0), 0.0
        )

    def forward(self, field: Array) -> Complex:
        """Spectrum (..., ny, nx // 2 + 1) of a field (..., ny, nx)."""
        return np.asarray(fft.rfft2(field), dtype=np.complex128)

    def inverse(self, spectrum: Complex) -> Array:
        """Field (..., ny, nx) of a spectrum (..., ny, nx // 2 + 1)."""
        return np.asarray(fft.irfft2(spectrum, s=self.shape, overwrite_x=True), dtype=np.float64)

    def memory(self, hours: float) -> Array:
        """Autocorrelation of anomalies after `hours`, (ny, nx // 2 + 1): larger scales persist longer."""
        longest, shortest = np.log(MAX_MEMORY_WAVELENGTH), np.log(MIN_MEMORY_WAVELENGTH)
        wavelength = -np.log(np.maximum(self.wavenumber, 1 / MAX_MEMORY_WAVELENGTH))
        length = np.clip((wavelength - shortest) / (longest - shortest), 0.0, 1.0)
        memory: Array = np.exp(-hours / (MIN_MEMORY * (MAX_MEMORY / MIN_MEMORY) ** length))
        return memory

    def red(self, slope: float, outer: float, inner: float) -> Array:
        """Filter that gives white noise a power spectrum k^-slope between two wavelengths, in cells.

        The power is constant at wavelengths above `outer`, and falls off as a Gaussian below `inner`.
        """
        amplitude = (1 + (self.wavenumber * outer) ** 2) ** (-slope / 4)
        return self.unit_variance(amplitude * np.exp(-0.5 * (self.wavenumber * inner) ** 2))

    def blobs(self, radius: float) -> Array:
        """Filter that smooths white noise with a Gaussian kernel of this radius, in cells."""
        return self.unit_variance(np.exp(-0.5 * (2 * np.pi * self.wavenumber * radius) ** 2))

    def unit_variance(self, amplitude: Array) -> Array:
        """Return the amplitude, scaled so that white noise of variance 1 has variance 1 after filtering."""
        return amplitude / math.sqrt(self._total(amplitude**2))

    def differentiable(self, amplitude: Array) -> Array:
        """Return the amplitude without the components that have no wind: the mean and the Nyquist waves."""
        return np.where(self._differentiable, amplitude, 0.0)

    def wind_amplitude(self, amplitude: Array) -> float:
        """Standard deviation, m/s, of each wind component if the filtered noise is a stream function, m2/s."""
        gradient = (np.abs(self._dx) ** 2 + np.abs(self._dy) ** 2) * amplitude**2
        return float(np.sqrt(self._total(gradient) / 2))

    def displacement(self, cells: Array) -> Complex:
        """Phase factors (member, ny, nx // 2 + 1) that shift a field by `cells` (member, 2), x first."""
        x = np.exp(-2j * np.pi * cells[:, 0, None] * self._kx)
        y = np.exp(-2j * np.pi * cells[:, 1, None] * self._ky)
        return np.asarray(y[:, :, None] * x[:, None, :], dtype=np.complex128)

    def winds(self, stream_function: Complex, divergence: Complex) -> tuple[Array, Array]:
        """Wind (u, v), m/s, from the spectra of a stream function, m2/s, and a divergence, 1/s."""
        potential = divergence * self._inverse_laplacian
        u = self.inverse(self._dx * potential - self._dy * stream_function)
        v = self.inverse(self._dy * potential + self._dx * stream_function)
        return u, v

    def stream_function(self, u: Array, v: Array) -> Array:
        """Stream function, m2/s, of the rotational part of a wind, m/s; its mean is zero."""
        vorticity = self._dx * self.forward(v) - self._dy * self.forward(u)
        return self.inverse(vorticity * self._inverse_laplacian)

    def _total(self, power: Array) -> float:
        """Variance of white noise of variance 1 whose power at each wave is multiplied by `power`."""
        ny, nx = self.shape
        # A real field's spectrum is stored without the columns that mirror others.
        count = np.full(power.shape[1], 2.0)
        count[0] = 1.0
        if nx % 2 == 0:
            count[-1] = 1.0
        return float((power * count).sum() / (ny * nx))
