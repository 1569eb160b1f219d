"""Packages that an installation may lack: which extra of arcsm's brings each."""

EXTRAS = {
    "matplotlib": "plot",
    "ot": "metrics",
    "tensorboard": "tensorboard",
    "torch_fidelity": "metrics",
    "torchmetrics": "metrics",
}
"""By the name that a package is imported under. All are imported where they are used, and there
alone: the frame of the command line knows what a failed import means."""


def missing_extra(error: BaseException) -> str | None:
    """Say how to install what an import did not find; None of other errors.

    >>> missing_extra(ModuleNotFoundError("No module", name="ot.backend"))
    "the package ot is not installed: pip install 'arcsm[metrics]'"
    """
    name = (error.name or "") if isinstance(error, ModuleNotFoundError) else ""
    package = name.partition(".")[0]
    if package not in EXTRAS:
        return None
    return f"the package {package} is not installed: pip install 'arcsm[{EXTRAS[package]}]'"
