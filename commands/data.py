"""``arcsm data``: any DATA as an HDF5 file, a table, an archive or a folder of pictures."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from arcsm_cli.cli.invocation import provenance_entry
from arcsm_cli.cli.options import (
    Data,
    Force,
    Output,
    Seed,
)
from arcsm_cli.cli.progress import progress
from arcsm_cli.data.options import DataOptions

_log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 22  # of examples, as float32, written at a time


def run(
    data: Data,
    output: Output,
    *,
    by_label: Annotated[
        bool,
        typer.Option("--by-label", help="Of -o FOLDER/: a folder of pictures for each label."),
    ] = False,
    force: Force = False,
    options: DataOptions,
    seed: Seed = 0,
) -> None:
    """Write any DATA as an HDF5 file, or for other programs.

    To stage a data set on a cluster, to convert between formats, or to look at what a
    specification means. Images are stored in [0, 1], N x C x H x W; vectors as they are, N x D;
    labels are kept where there are any. The split is 'test' unless DATA names another.

    The ending of the output says what is written: .h5, .npz (for numpy.load), .csv (vectors), or
    FOLDER/ with PNG files of 8 bits, 000000.png and so on, as programs that compute FID read them,
    and provenance.json. Other commands that write samples take the same endings.

    Examples:

      arcsm data digits:train -o digits.h5
      arcsm data mnist:train --download -o mnist.h5
      arcsm data photos/ --resize 32 -o photos.h5
      arcsm data samples.h5 -o pictures/
      arcsm data mnist --by-label -o by-digit/
      arcsm data samples.h5 -o samples.npz
      arcsm data table.csv -o - | arcsm info -
    """
    from arcsm_cli.data.spec import load_data
    from arcsm_cli.io.provenance import extend
    from arcsm_cli.io.sample_output import check_sample_output, sample_output

    check_sample_output(output, force=force)
    loaded = load_data(data, options, default_split="test")
    chain = extend([loaded.source], provenance_entry(seed=seed, inputs={data: loaded.digest}))
    size = max(1, _BLOCK_BYTES // (4 * loaded.values[:1].numel()))
    _say_what_is_left(data)
    file = sample_output(
        output, loaded.shape, chain, columns=loaded.columns, force=force, by_label=by_label
    )
    with (
        file as append,
        progress(len(loaded), "writing") as bar,
    ):
        start = 0
        for batch in loaded.batches(size):
            x = batch.x
            labels = None if loaded.labels is None else loaded.labels[start : start + len(x)]
            append(x, labels=labels)
            start += len(x)
            bar.update(len(x))
    _log.info("wrote %d examples of shape %s", len(loaded), loaded.shape)


def _say_what_is_left(data: str) -> None:
    """Say which datasets of a sample file are no examples and no labels, and not taken along."""
    from arcsm_cli.data.hdf5 import is_ours
    from arcsm_cli.io.samples import SampleFile
    from arcsm_cli.io.streams import sniff
    from arcsm_cli.notices import note

    path = Path(data)
    if not path.is_file() or sniff(path) != "samples" or not is_ours(path):
        return
    with SampleFile(path) as file:
        left = [name for name in file.names if name not in ("samples", "labels")]
    if left:
        note("takes the samples of %s and their labels, not its %s", data, ", ".join(left))
