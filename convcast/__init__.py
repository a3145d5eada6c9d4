"""convcast: learn to sample the next hours of convection from HRRR analyses.

`open_forecast` is imported at its first use, since many commands need no xarray, which takes long to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convcast.api import open_forecast

__version__ = "0.1.0"
__all__ = ["__version__", "open_forecast"]


def __getattr__(name: str) -> Any:
    if name == "open_forecast":
        return import_module("convcast.api").open_forecast
    raise AttributeError(f"module {__name__} has no attribute {name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
