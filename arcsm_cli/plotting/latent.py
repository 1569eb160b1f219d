"""What a VAE makes of data: reconstructions, samples, and the codes of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError
from arcsm_cli.plotting.figure import BLUE, add_grid, title
from arcsm_cli.plotting.points import MATRIX
from arcsm_cli.plotting.window import window
from arcsm_cli.randomness import SampleNoise
from arcsm_cli.sampling.latent import sample_vae

if TYPE_CHECKING:
    from arcsm_cli.data.dataset import Dataset
    from arcsm_cli.models.vae import VAE

_MOST_CLASSES = 10  # that colours can tell apart
_PRIOR_SHARES = (0.5, 0.95)  # of the prior, inside the circles that are drawn
_REACH = 2.6  # of the axes at least: the larger circle's radius is 2.45
_BATCH = 256
_LARGEST = 1e30  # of a code: matplotlib's arithmetic holds


@torch.no_grad()
def codes_of(vae: VAE, data: Dataset) -> NDArray[np.float64]:
    """Return one code of each example, (N, L); example i's noise depends on i alone.

    Grey values go into an encoder of binary data as they are: its code is then of no random draw
    but of the image that is seen.

    Raises:
        DamagedInputError: the weights are so large that codes overflow.
    """
    device = vae.device
    parts = []
    start = 0
    for batch in data.batches(_BATCH):
        x = batch.x
        noise = SampleNoise(0, range(start, start + len(x)), device)
        parts.append(vae.encode(vae.flatten(x), noise.normal(vae.config.latent_dim)))
        start += len(x)
    codes = torch.cat(parts).double().cpu()
    if not codes.isfinite().all() or codes.abs().max() > _LARGEST:
        raise DamagedInputError("the model's codes are not usable numbers on these data")
    return codes.numpy()


@torch.no_grad()
def versions(vae: VAE, data: Dataset) -> dict[str, NDArray[np.float32]]:
    """Return images of the data, their reconstructions, and as many samples, by name."""
    device = vae.device
    z = torch.from_numpy(codes_of(vae, data)).float().to(device)
    noise = SampleNoise(0, range(len(data)), device)
    shown = {
        "data": data.take(torch.arange(len(data))),
        "decoded": vae.unflatten(vae.mean(z)),
        "samples": sample_vae(vae, noise, denoise=True),
    }
    if not all(bool(images.isfinite().all()) for images in shown.values()):
        raise DamagedInputError("the model's images are not numbers on these data")
    return {name: images.clamp(0, 1).cpu().numpy() for name, images in shown.items()}


def draw_codes(
    figure: Figure, codes: NDArray[np.float64], labels: NDArray[np.int64] | None
) -> None:
    """Draw codes against each other: the aggregate posterior, coloured by class.

    Arguments:
        codes: (N, L), L at least 1; of more than five variables the first five are drawn.
        labels: (N,), or None; drawn where there are at most ten classes.
    """
    count, total = min(codes.shape[1], MATRIX), codes.shape[1]
    classes = [] if labels is None else np.unique(labels).tolist()
    if labels is None or not 1 < len(classes) <= _MOST_CLASSES:
        classes, labels = [0], np.zeros(len(codes), np.int64)
    tab: Any = colormaps["tab10"]
    colours = tab.colors if len(classes) > 1 else (BLUE,)
    windows = [window(column) for column in codes.T[:count]]
    if count > 1:  # codes are seen over the prior, never as a detail of it
        windows = [(min(low, -_REACH), max(high, _REACH)) for low, high in windows]
    side = max(1, count - 1)
    grid = figure.subplots(side, side, squeeze=False)
    size = float(np.clip(12000 / len(codes), 2.0, 14.0)) / side
    for i in range(side):
        for j in range(side):
            axes = grid[i, j]
            if j > i:
                axes.set_visible(False)
                continue
            across, up = (j, i + 1) if count > 1 else (0, 0)
            for label, colour in zip(classes, colours, strict=False):
                own = codes[labels == label]
                if count == 1:
                    axes.hist(own[:, 0], bins=60, range=windows[0], color=colour, alpha=0.6)
                    continue
                axes.scatter(
                    *(own[:, across], own[:, up]),
                    s=size,
                    color=colour,
                    alpha=0.6,
                    linewidths=0,
                    rasterized=True,
                    label=str(label),
                )
            axes.set_xlim(windows[across])
            if i == side - 1:
                axes.set_xlabel(f"$z_{{{across + 1}}}$")
            if count > 1:
                _draw_prior(axes)
                axes.set_ylim(windows[up])
                if j == 0:
                    axes.set_ylabel(f"$z_{{{up + 1}}}$")
            else:
                axes.set_yticks([])
            add_grid(axes)
    if len(classes) > 1 and count > 1:
        handles, names = grid[0, 0].get_legend_handles_labels()
        owner: Any = figure if side > 1 else grid[0, 0]
        place = ("upper right", (0.98, 0.88)) if side > 1 else ("center left", (1.0, 0.5))
        legend = owner.legend(handles, names, loc=place[0], bbox_to_anchor=place[1], markerscale=4)
        legend.set_title("class")
    parts = [f"codes of {len(codes):,} examples"]
    if count < total:
        parts.append(f"the first {count} of {total} variables")
    if count > 1:
        parts.append("circles hold 50 and 95 % of the prior")
    if side > 1:
        figure.text(0.98, 0.97, "\n".join(parts), ha="right", va="top")
    else:
        title(grid[0, 0], "; ".join(parts))


def _draw_prior(axes: Axes) -> None:
    """Circles that hold shares of a standard normal of two variables."""
    for share in _PRIOR_SHARES:
        radius = float(np.sqrt(-2 * np.log(1 - share)))  # P(r <= radius) = 1 - exp(-radius^2 / 2)
        axes.add_patch(Circle((0, 0), radius, fill=False, color="#555555", linewidth=0.8))
