"""Curves and sample grids for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from arcsm_cli.sampling.choose import default_sampler
from arcsm_cli.sampling.noise import SampleNoise
from arcsm_cli.sampling.run import sample
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
        for name, tag in (("loss", "loss/train"), ("valid_loss", "loss/valid"), ("lr", "lr")):
            self.writer.add_scalar(tag, history[name][-1], state.step)
        if state.model.config.is_image and len(history["step"]) % self.grid_every == 0:
            model = state.averaged_model()
            noise = SampleNoise(state.settings.seed, range(_GRID), model.mean.device)
            images = sample(model, default_sampler(model), noise, denoise=model.sigma_min > 0)
            grid = images.clamp(0, 1).cpu()
            self.writer.add_images("samples", grid, state.step)
        self.writer.flush()

    def close(self) -> None:
        """Flush and close."""
        self.writer.close()
