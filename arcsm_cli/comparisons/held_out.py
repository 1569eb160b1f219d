"""Training data and what is held out from it."""

from __future__ import annotations

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data
from arcsm_cli.errors import UsageError


def train_and_test(data: str, options: DataOptions) -> tuple[Dataset, Dataset]:
    """Return both splits of a data specification, which names none.

    Raises:
        UsageError: it names a split, or is standard input, or has not both splits.

    Example:
        >>> [len(part) for part in train_and_test("digits", DataOptions(limit=5))]
        [5, 5]
    """
    if data == "-" or data.endswith((":train", ":valid", ":test")):
        raise UsageError(f"--data {data}: expected data without a split; train and test are used")
    train, test = (
        load_data(f"{data}:{split}", options, default_split=split) for split in ("train", "test")
    )
    return train, test
