"""Curves and sample grids for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from arcsm_cli.training.state import TrainState

_GRID = 16


class TensorBoard:
    """Writes the history's scalars, and now and then images that the averaged model draws.

    Arguments:
        folder: the log directory; created.
        grid_every: every how many records a grid is drawn.
    """

    def __init__(self, folder: Path, grid_every: int = 10) -> None:
        self.writer = SummaryWriter(str(folder))
        self.grid_every = grid_every

    def record(self, state: TrainState) -> None:
        """Write the last entry of the history, and a sample grid when one is due."""
        history = state.history
        tags = {"loss": "loss/train", "valid_loss": "loss/valid", "score_loss": "loss/score"}
        for name, curve in history.items():
            if name != "step":
                self.writer.add_scalar(tags.get(name, name), curve[-1], state.step)
        if len(history["step"]) % self.grid_every == 0:
            pictures = state.task.pictures(state, _GRID)
            if pictures is not None:
                self.writer.add_images("samples", pictures.clamp(0, 1).cpu(), state.step)
        self.writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()
