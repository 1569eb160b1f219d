"""Which figure a file gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arcsm_cli.data.conditions import names_of
from arcsm_cli.errors import DamagedInputError, UsageError
from arcsm_cli.io.streams import label
from arcsm_cli.plotting.figure import WIDTH, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from arcsm_cli.data.options import DataOptions
    from arcsm_cli.models.base import AutoregressiveModel
    from arcsm_cli.plotting.density import ModelDensity
    from arcsm_cli.plotting.heatmap import Scale
    from arcsm_cli.plotting.window import Window

Writer = Callable[[Path, str], None]  # given a path and a format
# Given a number of steps, shows how many of them are done: `update` of what it yields tells it.
Track = Callable[[int], AbstractContextManager[Any]]

# Drawn by default; more points would hide a heat map under them.
IMAGES, POINTS, POINTS_OVER = 64, 10_000, 2_000
RECONSTRUCTIONS, CODES = 16, 5_000
_LOW, _CURVES, _SQUARE, _TALL = 3.6, 4.2, 5.2, 7.0  # heights in inches
_VERSIONS = {"clean": "clean", "corrupted": "corrupted", "samples": "restored"}  # top to bottom


def figure_of_samples(
    path: Path,
    *,
    model: str | None,
    scale: Scale | None,
    count: int | None,
    columns: int | None,
    device: str,
    track: Track,
    width: float = WIDTH,
) -> Writer:
    """Return what writes the figure of a sample file.

    Arguments:
        path: the file.
        model: a checkpoint whose density is drawn under the samples, or ``-``.
        scale: of the density, None for the default.
        count, columns: how many samples, and images in a row; None for the default.
        device: where the density is evaluated.
        track: shows how far that is.
        width: of a figure of vectors, in inches.

    Raises:
        UsageError: an option does not fit what the file holds.
        DamagedInputError: a file is damaged, holds nothing to draw, or is not of the model's shape.
    """
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.plotting.images import write_rows
    from arcsm_cli.plotting.points import draw_points, read_points, windows_of

    if scale is not None and model is None:
        raise UsageError("--scale is of a density: it needs --model")
    network = None if model is None else _restored(model, device)
    with SampleFile(path) as samples:
        total, shape = len(samples), samples.shape
        if total == 0:
            raise DamagedInputError(f"{label(path)}: holds no samples to draw")
        if network is not None:
            _check_model(network, label(str(model)), shape, label(path))
        if len(shape) == 3:
            images = {
                shown: samples.read(0, count or IMAGES, name)
                for name, shown in _VERSIONS.items()
                if name in samples.names
            }
            return partial(write_rows, images, columns=columns)
        if len(shape) != 1:
            raise DamagedInputError(
                f"{label(path)}: its samples are {_times(shape)}, neither vectors nor images"
            )
        if columns is not None:
            raise UsageError(f"--columns is for images, {label(path)} holds vectors")
        covers = network is not None and shape[0] == 2
        points = read_points(samples, count or (POINTS_OVER if covers else POINTS))
    density = None
    if network is not None:
        with _naming(str(model)):
            density = _density(network, windows_of(points), track)
    draw = partial(
        draw_points,
        points=points,
        total=total,
        dimensions=shape[0],
        density=density,
        scale=scale or "density",
    )
    height = (_LOW if shape[0] == 1 else _SQUARE) * width / WIDTH
    return partial(write_figure, draw, height=height, width=width)


def figure_of_checkpoint(
    path: Path,
    *,
    density: bool,
    slices: list[float],
    scale: Scale | None,
    device: str,
    track: Track,
) -> Writer:
    """Return what writes the figure of a checkpoint.

    Arguments:
        path: the file.
        density: draw the model's density, not its training curves.
        slices: values of the first variable at which the second one's density is drawn as well.
        scale, device, track: as for `figure_of_samples`.

    Raises:
        UsageError: an option does not fit the model.
        DamagedInputError: the file is damaged or holds nothing to draw.
    """
    if not density:
        from arcsm_cli.io.checkpoint import load_checkpoint
        from arcsm_cli.plotting.curves import draw_history, read_history

        if slices or scale is not None:
            raise UsageError("--slices and --scale are of a density: they need --density")
        checkpoint = load_checkpoint(path)
        history = read_history(checkpoint.training, checkpoint.config, label(path))
        return partial(write_figure, partial(draw_history, history=history), height=_CURVES)

    from arcsm_cli.plotting.density import conditionals, mass_windows
    from arcsm_cli.plotting.heatmap import draw_density

    model = _restored(path, device)
    shape = model.config.shape
    if len(shape) != 1 or shape[0] > 2:
        raise UsageError(
            f"--density draws models of one or two variables, {label(path)} has {_times(shape)}"
        )
    if slices and shape[0] == 1:
        raise UsageError(f"--slices needs a model of two variables, {label(path)} has one")
    with _naming(path):
        windows = mass_windows(model)
        surface = _density(model, windows, track)
        cuts = conditionals(model, slices, windows) if slices else None
    draw = partial(draw_density, density=surface, scale=scale or "density", slices=cuts)
    height = _LOW if shape[0] == 1 else _TALL if slices else _SQUARE
    return partial(write_figure, draw, height=height)


def figure_of_vae(
    path: Path,
    data: str,
    options: DataOptions,
    *,
    latent: bool,
    count: int | None,
    columns: int | None,
    device: str,
) -> Writer:
    """Return what writes the figure of a VAE on data.

    Arguments:
        path: the checkpoint.
        data, options: DATA, and what the command line says of it.
        latent: draw the codes of the data, not reconstructions and samples.
        count, columns: how many examples, and images in a row; None for the default.
        device: where codes and images are computed.

    Raises:
        UsageError: an option does not fit the model.
        DamagedInputError: the file is damaged or holds another model, or the data do not fit it.
    """
    from arcsm_cli.data.spec import load_data
    from arcsm_cli.evaluation.figures import check_shape
    from arcsm_cli.models.load import load_any
    from arcsm_cli.models.vae import VAE
    from arcsm_cli.plotting.images import write_rows
    from arcsm_cli.plotting.latent import codes_of, draw_codes, versions

    vae = load_any(path)[1]
    if not isinstance(vae, VAE):
        raise UsageError(f"--data is for a VAE, {label(path)} holds none")
    vae = vae.to(device)
    if not latent and not vae.config.is_image:
        raise UsageError("reconstructions are drawn of images; --latent draws the codes of vectors")
    if latent and columns is not None:
        raise UsageError("--columns is for images, --latent draws codes")
    if options.shuffle is None:
        options = replace(options, limit=count or (CODES if latent else RECONSTRUCTIONS))
    elif count is not None:
        raise UsageError("give --count (the first N) or --shuffle (N at random), not both")
    config = vae.config
    examples = load_data(
        data, options, default_split="test", like=config.shape, names=config.columns
    )
    check_shape(vae, examples)
    with _naming(path):
        if not latent:
            return partial(write_rows, versions(vae, examples), columns=columns)
        codes = codes_of(vae, examples)
    labels = None if examples.labels is None else examples.labels.numpy()
    draw = partial(draw_codes, codes=codes, labels=labels)
    height = _LOW if vae.config.latent_dim == 1 else _SQUARE
    return partial(write_figure, draw, height=height if vae.config.latent_dim <= 2 else _TALL)


def figure_of_scores(path: Path, against: list[str]) -> Writer:
    """Return what writes the figure of a scored sample file against others.

    Arguments:
        path: the file of the in-distribution examples.
        against: paths of the others, or ``-``.

    Raises:
        UsageError: there are more files, or statistics, than a figure has room for.
        MissingInputError: a file does not exist or cannot be read.
        DamagedInputError: one is damaged or holds no scores, or they have none in common.
    """
    from arcsm_cli.evaluation.ood_report import shared_statistics, short
    from arcsm_cli.plotting.roc import MOST_SETS, MOST_STATISTICS, ROW, draw_scores

    if len(against) > MOST_SETS:
        raise UsageError(f"--against is given {len(against)} times; a figure shows {MOST_SETS}")
    first, *others = shared_statistics([str(path), *against])
    first = dict(list(first.items())[:MOST_STATISTICS])
    names = [short(label(name)) for name in against]
    if len({label(path), *names}) <= len(names):  # equal names in different folders
        names = [label(name) for name in against]
    draw = partial(
        draw_scores,
        inside=(short(label(path)), first),
        outside=dict(zip(names, others, strict=True)),
    )
    return partial(write_figure, draw, height=ROW * len(first) + 0.2)


def figure_of_comparison(path: Path) -> Writer:
    """Return what writes the figure of an experiment between objectives.

    Raises:
        DamagedInputError: the file is damaged, or its tables are not those of its experiment.
    """
    from arcsm_cli.io.comparison_file import load_comparison
    from arcsm_cli.plotting.comparisons import draw_comparison, height_of

    found = load_comparison(path)

    def draw(figure: Figure) -> None:
        with _naming(path):
            draw_comparison(figure, found.experiment, found.tables)

    return partial(write_figure, draw, height=height_of(found.experiment, found.tables))


def _restored(source: str | Path, device: str) -> AutoregressiveModel:
    from arcsm_cli.io.checkpoint import load_checkpoint
    from arcsm_cli.models.restore import restore
    from arcsm_cli.runtime import reuse_memory

    reuse_memory()
    with _naming(source):
        model = restore(load_checkpoint(source)).to(device)
    if model.config.given:
        raise UsageError(
            f"{label(source)}: models examples given {names_of(model.config.given)}; densities are "
            "drawn of models that are given nothing"
        )
    return model


@contextmanager
def _naming(source: str | Path) -> Iterator[None]:
    """Let errors about a model name its file."""
    try:
        yield
    except DamagedInputError as error:
        if str(error).startswith(name := label(source)):
            raise
        raise DamagedInputError(f"{name}: {error}") from error


def _check_model(model: AutoregressiveModel, name: str, shape: tuple[int, ...], file: str) -> None:
    if model.config.shape != shape:
        raise DamagedInputError(
            f"{name}: is a model of shape {_times(model.config.shape)}, the samples in {file} have "
            f"the shape {_times(shape)}"
        )
    if len(shape) != 1 or shape[0] > 2:
        raise UsageError(
            f"--model draws densities of one or two variables, {file} holds {_times(shape)}"
        )


def _density(model: AutoregressiveModel, windows: list[Window], track: Track) -> ModelDensity:
    from arcsm_cli.plotting.density import density_on, grid_size

    with track(grid_size(model, windows)) as bar:
        return density_on(model, windows, bar.update)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
