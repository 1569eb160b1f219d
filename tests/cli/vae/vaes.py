"""Small VAEs of digits, and what their files hold."""

from typing import Any

import pytest

METHODS = ("elbo", "csm", "ssm", "ssm-ar", "stein", "spectral")
each = pytest.mark.parametrize("method", METHODS)
either = pytest.mark.parametrize("method", ["elbo", "csm"])  # a normal and an implicit encoder
TINY = ("--hidden", "12,12", "--latent-dim", 2, "--batch-size", 16, "--limit", 200)
# Options of a method that keep it small.
OWN: dict[str, tuple[Any, ...]] = {
    "csm": ("--context-width", 4, "--score-hidden", "8"),
    "ssm-ar": ("--context-width", 4, "--score-hidden", "8"),
    "stein": ("--particles", 8),
    "spectral": ("--particles", 8),
}
FEW = ("--importance-samples", 5)
QUICK = ("--chains", 2, "--temperatures", 5, *FEW)


def options(method: str = "csm") -> tuple[Any, ...]:
    return ("--method", method, *TINY, *OWN.get(method, ()))
