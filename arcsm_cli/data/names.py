"""The named data sets, for help texts and error messages; importing it loads nothing heavy."""

import difflib

from arcsm_cli.registry import SOURCES

TRAIN_TEST = ("train", "test")
SPLITS = ("train", "valid", "test")

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders of splits are called, in lower case, and which splits they are."""

TWO_DIMENSIONAL = SOURCES.tagged("plane")


def splits_of(name: str) -> tuple[str, ...]:
    """Return the splits of a named data set; empty for those in the shape of a model."""
    if SOURCES.has(name, "shaped"):
        return ()
    return SPLITS if SOURCES.has(name, "valid") else TRAIN_TEST


def suggestion(name: str) -> str:
    """Return ``"; did you mean 'NAME'?"`` for the closest data set, or a list of them all.

    Example:
        >>> suggestion("mnits")
        "; did you mean 'mnist'?"
    """
    close = difflib.get_close_matches(name.lower(), SOURCES, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return "; the data sets are " + ", ".join(SOURCES)
