"""Folders of images, loaded in a line."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.spec import load_data

Save = Callable[..., None]
Hostile = Callable[[], AbstractContextManager[None]]


def load(path: Path | str, split: str = "test", **given: Any) -> Dataset:
    return load_data(str(path), DataOptions(**given), default_split=split)
