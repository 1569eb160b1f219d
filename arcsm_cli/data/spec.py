"""Data loaded for a purpose: to be read, to be trained on, or for what is known of examples."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from arcsm_cli.data.columns import fitted
from arcsm_cli.data.conditions import Conditions
from arcsm_cli.data.dataset import MAX_BYTES, Beside, Dataset, Rows
from arcsm_cli.data.given import told
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.several import Several, expanded
from arcsm_cli.data.source import check_split, files_of, open_source, path_of
from arcsm_cli.data.splits import PARTS, count_of
from arcsm_cli.errors import ArcsmError, UsageError
from arcsm_cli.io.streams import label, local_input, sniff
from arcsm_cli.processors import usable_memory

MOST_HELD = 0.5
"""Share of the memory that this process may use, beyond which training data stay in their files."""


class TrainingData(NamedTuple):
    """What a run is given of DATA.

    Attributes:
        train, valid: to train on, and held out for the validation loss.
        part: the split trained on, of a source that has those of `arcsm_cli.data.splits`; else
            empty.
        whole: how many examples such a source has.
        test: how many of them are left for the test.
    """

    train: Rows
    valid: Rows
    part: str = ""
    whole: int = 0
    test: int = 0


def load_data(
    spec: str,
    options: DataOptions,
    *,
    default_split: str,
    like: tuple[int, ...] | None = None,
    names: Sequence[str] = (),
    given: Conditions = (),
    part: Callable[[Dataset], str | None] | None = None,
) -> Dataset:
    """Load the data that a specification names.

    Arguments:
        spec: The specification.
        options: Where and how to load it.
        default_split: The split of a source with splits of its own when ``spec`` names none; a
            file is then taken as a whole.
        like: Shape of one example of the model, which ``uniform`` and ``constant-uniform`` take.
        names: Of the model's columns, as which those of a table are taken, in the model's order.
        given: What the model is told of each example, which the data have to say.
        part: Of a source without splits of its own, when ``spec`` names none: given all of it,
            says which split to take, ``None`` for everything.

    Returns:
        The examples: images N x C x H x W or vectors N x D, at least one and all finite.

    Raises:
        MissingInputError: ``spec`` is neither a known name nor an existing path.
        UsageError: There is no such split, or an option does not fit the data.
        UnavailableError: The data set has to be downloaded first, or that failed.
        DamagedInputError: A file is damaged or of a kind that holds no data, its columns are not
            those of ``names``, or it does not say what is to be given.

    Example:
        >>> load_data("digits", DataOptions(limit=100), default_split="train").values.shape
        torch.Size([100, 1, 8, 8])
    """
    options = options.told(given)
    source, asked = open_source(spec, options, like)
    split = source.choose(asked, default_split)
    undivided = source.undivided
    if part is not None and asked is None and undivided is not None and not undivided.chosen():
        split = part(fitted(source.read(None, options.everything), names))
    return told(fitted(source.read(split, options), names), given)


def load_beside(spec: str, options: DataOptions) -> tuple[Beside, ...]:
    """Return what data say of each example as ``--given`` asks for it, in its order.

    A table needs no other columns; of data with splits it is those of the test split.

    Raises:
        ArcsmError: As `load_data`.
    """
    path = path_of(spec)
    if path is None or os.path.isdir(path) or not (path == "-" or os.path.exists(path)):
        return load_data(spec, options, default_split="test").beside
    from arcsm_cli.data.files import is_table
    from arcsm_cli.data.tables import read_table

    with local_input(path) as file:
        if is_table(file):
            return read_table(file, options, values=False).beside
        # A pipe can be read only once: from here on its spool file stands for it.
        where = spec if os.path.isfile(path) else os.fspath(file)
        return load_data(where, options, default_split="test").beside


def load_training(spec: str, options: DataOptions, *, stream: bool | None = False) -> TrainingData:
    """Load training data and held-out validation data.

    The validation split serves where there is one: of the source's own, or of
    `arcsm_cli.data.splits` for a file or a folder without. Otherwise, and of everything that such a
    file holds (``FILE:all``, or a file that this program wrote), a tenth of the training data is
    held out (see `Dataset.carve`). The test split is never touched, unless ``spec`` names it as the
    data to train on. The choice of ``options`` holds for both.

    Arguments:
        spec, options: As of `load_data`.
        stream: Leave the examples of HDF5 files there, and read them as they are needed
            (`streamed.StreamedRows`); None if they take more memory than `MOST_HELD`.

    Raises:
        ArcsmError: As `load_data`; also if there are fewer than two examples, or if data are to be
            left in their files that are in none.
    """
    if stream is not False and (found := _in_files(spec, options, stream)) is not None:
        return found
    source, asked = open_source(spec, options, None)
    undivided = source.undivided
    if undivided is not None and asked is None and not undivided.chosen():
        asked = "train"
    split = source.choose(asked, "train")
    train = source.read(split, options)
    if split == "train" and "valid" in source.splits:
        valid = source.read("valid", options)
    else:
        train, valid = train.carve()
    if undivided is None or split is None:
        return TrainingData(train, valid)
    hashes = undivided.hashes
    test = count_of(hashes, "test") if split == "train" else 0
    return TrainingData(train, valid, split, len(hashes), test)


def _in_files(spec: str, options: DataOptions, stream: bool | None) -> TrainingData | None:
    """Return training data that stay in their files, None if they are to be held in memory."""
    from arcsm_cli.data.row_files import RowFiles
    from arcsm_cli.data.streamed import training_parts

    spec = expanded(spec)
    paths, member, asked = files_of(spec)
    if not all(os.path.isfile(path) and sniff(Path(path)) == "samples" for path in paths):
        if stream:
            raise UsageError(
                f"--stream yes: {label(spec)} is not in HDF5 files (.h5), as 'arcsm data' makes"
            )
        return None
    if isinstance(spec, Several):
        name: str = spec.without(asked)
    else:
        name = spec.removesuffix(f":{asked}") if asked else spec
    try:
        files = RowFiles(paths, member, options, name)
    except ArcsmError:
        if stream:
            raise
        return None  # what is wrong, reading it into memory will say
    if stream is None and files.memory <= min(MAX_BYTES, MOST_HELD * usable_memory()):
        files.close()
        return None
    if asked is None and not files.chosen:
        asked = "train"
    split = None if asked is None else check_split(asked, PARTS, name)
    return TrainingData(*training_parts(files, split, options))
