"""Autoregressive conditional score models: train, sample, score and evaluate.

The package is the library behind the ``arcsm`` program. Importing it costs nothing: PyTorch is
loaded only by the modules that compute.
"""

__version__ = "0.1.0"
