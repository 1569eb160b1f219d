"""What files hold that the program wrote."""

from pathlib import Path
from typing import Any

from arcsm_cli.io.samples import SampleFile


def read(path: Path, name: str = "samples") -> Any:
    """One dataset of a sample file, (N, ...)."""
    with SampleFile(path) as file:
        return file.read(0, len(file), name)


def datasets(path: Path) -> dict[str, Any]:
    """All of them, by name."""
    with SampleFile(path) as file:
        return {name: file.read(0, len(file), name) for name in file.names}


def contents(path: Path) -> tuple[dict[str, bytes], dict[str, Any], dict[str, Any]]:
    """The tensors' bytes, the settings of the model and the training of a checkpoint."""
    from arcsm_cli.io.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    tensors = {name: t.numpy().tobytes() for name, t in checkpoint.tensors.items()}
    return tensors, checkpoint.config, checkpoint.training
