"""convcast: learn to sample the next hours of convection from HRRR analyses."""

__version__ = "0.1.0"
