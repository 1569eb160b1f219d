"""Autoregressive conditional score models: train, sample, score and evaluate.

The package is the library behind the ``arcsm`` program, and `load` and `train` are its Python
interface (`arcsm_cli.interface`). Importing it costs nothing: PyTorch is loaded only by the modules
that compute, and those by what asks for them first.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arcsm_cli.interface import Model, load, train

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from arcsm_cli import interface

    return getattr(interface, name)
