"""Curves and sample grids for TensorBoard."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from arcsm_cli.training.state import TrainState

logger = logging.getLogger(__name__)

_GRID = 16


class TensorBoard:
    """Writes the history's scalars, and now and then images that the averaged model draws.

    Where they cannot be written any more, the training goes on without them, with a warning: its
    curves are in the checkpoint too.

    Arguments:
        folder: the log directory; created.
        grid_every: every how many records a grid is drawn.

    Raises:
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: Path, grid_every: int = 10) -> None:
        self._folder = folder
        self._broken = False
        with _quiet_threads():
            self.writer = SummaryWriter(str(folder))
        self.grid_every = grid_every

    def record(self, state: TrainState) -> None:
        """Write the last entry of the history, and a sample grid when one is due."""
        if self._broken:
            return
        history = state.history
        pictures = None
        if len(history["step"]) % self.grid_every == 0:
            pictures = state.task.pictures(state.averaged_model(), state.settings.seed, _GRID)
        tags = {"loss": "loss/train", "valid_loss": "loss/valid", "score_loss": "loss/score"}
        with self._forgiving():
            for name, curve in history.items():
                if name != "step":
                    self.writer.add_scalar(tags.get(name, name), curve[-1], state.step)
            if pictures is not None:
                self.writer.add_images("samples", pictures.clamp(0, 1).cpu(), state.step)
            self.writer.flush()

    def close(self) -> None:
        """Flush and close."""
        if not self._broken:
            with self._forgiving():
                self.writer.close()

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        with _quiet_threads():
            try:
                yield
            except OSError as error:
                self._broken = True
                logger.warning(
                    "--log-dir %s: cannot be written: %s; the training goes on without it",
                    self._folder,
                    error.strerror or error,
                )


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keep the thread that writes from printing a traceback: its error is raised here as well."""
    usual = threading.excepthook

    def hook(args: Any) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            usual(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
