"""What the command line says about data, besides the specification itself."""

import os
from dataclasses import dataclass
from pathlib import Path

from arcsm_cli.options import check_bounds, option


@dataclass(frozen=True)
class DataOptions:
    """How a specification is read. Every command that takes DATA has these options.

    An option more is a field here: flags, ``--config``, help and the reference follow from it.

    Arguments:
        data_dir: Root of the downloaded data sets; ``None`` stands for the environment variable
            ``ARCSM_DATA``, else a folder in the user's cache.
        download: Whether a missing torchvision data set may be fetched.
        center_crop: Side in pixels of the square cut from the middle of each image; a side that
            is shorter already is left as it is.
        resize: Side in pixels to which images are resized (antialiased), after cutting the
            longer side to a square.
        limit: Take only the first ``limit`` examples.
        seed: Seed of the generated references (``uniform``, ``constant-uniform``); the command's.

    Raises:
        UsageError: A number is out of bounds.
    """

    data_dir: Path | None = option(
        None,
        "Where downloaded data sets are.",
        metavar="DIR",
        shown="a cache folder",
        env="ARCSM_DATA",
    )
    download: bool = option(False, "Fetch a data set or network weights that are not there yet.")
    center_crop: int | None = option(
        None, "Cut the middle N x N pixels first.", metavar="N", least=1
    )
    resize: int | None = option(None, "Scale images to N x N pixels.", metavar="N", least=1)
    limit: int | None = option(None, "Take the first N examples.", metavar="N", least=1)
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(self)

    @property
    def root(self) -> Path:
        """The folder that holds the torchvision data sets."""
        if self.data_dir is not None:
            return self.data_dir.expanduser()
        configured = os.environ.get("ARCSM_DATA")
        if configured:
            return Path(configured).expanduser()
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Path(cache).expanduser() / "arcsm"
