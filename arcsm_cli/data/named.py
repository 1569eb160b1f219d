"""Which of several named arrays holds the examples of a file, and which their labels."""

import posixpath
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from arcsm_cli.errors import DamagedInputError, MissingInputError
from arcsm_cli.io.streams import show
from arcsm_cli.notices import note

Array = NDArray[Any]

_EXAMPLES = ("images", "image", "samples", "data", "x")
_LABELS = ("labels", "label", "targets", "target", "classes", "y")
_LISTED = 12


class NamedArrays(Protocol):
    """The arrays of numbers in a file, by name; names may have several parts, as of paths."""

    @property
    def names(self) -> Collection[str]:
        """What they are called, in order."""

    def read(self, name: str) -> Array:
        """Return one of them."""


def choose(
    names: Collection[str], asked: str, where: str, labels: str = ""
) -> tuple[str, str | None]:
    """Return the names of the examples and, if there are any, of their labels.

    Examples are those asked for; else those called ``images``, ``samples``, ``data`` or ``x``, or
    else the only array that is not called as labels are. Their labels are beside them: ``y`` for
    ``x``, ``y_train`` for ``x_train``, ``train_labels`` for ``train_images``. Upper case counts as
    lower case. What is left is said.

    Arguments:
        names: Those there are.
        asked: The name asked for, empty for none.
        where: The file, for messages.
        labels: What is asked for as labels, if it is there.

    Raises:
        MissingInputError: There is none of the name asked for.
        DamagedInputError: Several could be meant, or none.

    Example:
        >>> choose(["x_train", "y_train", "x_test"], "x_train", "a.npz")
        ('x_train', 'y_train')
    """
    own = labels if labels in names else None
    names = [name for name in names if name != own]
    listed = show(", ".join(names[:_LISTED]) or "none", 200)
    if asked:
        wanted = asked.strip("/")
        if wanted not in names:
            raise MissingInputError(f"{where}: holds no array {show(asked)}; it holds {listed}")
        return wanted, own or labels_beside(wanted, names)
    others = [name for name in names if not _is_labels(name)]
    known = [name for name in others if posixpath.basename(name).lower() in _EXAMPLES] or others
    if len(known) != 1:
        raise DamagedInputError(
            f"{where}: holds {'several arrays' if names else 'no array of numbers'}"
            + (f": {where}::NAME says which, of {listed}" if names else "")
        )
    beside = own or labels_beside(known[0], names)
    left = [show(name, 40) for name in names if name not in (known[0], beside)]
    if left:
        told = "" if beside is None else f" with the labels {show(beside, 40)}"
        note("%s: %s is read%s, not %s", where, show(known[0], 40), told, ", ".join(left[:8]))
    return known[0], beside


def labels_beside(name: str, names: Collection[str]) -> str | None:
    """Return which array holds the labels of the examples of that name, if any.

    Example:
        >>> labels_beside("train_images", ["train_images", "test_labels", "train_labels"])
        'train_labels'
    """
    folder, base = posixpath.split(name)
    parts = base.lower().split("_")
    wanted = [
        "_".join([*parts[:place], label, *parts[place + 1 :]])
        for place, part in enumerate(parts)
        if part in _EXAMPLES
        for label in _LABELS
    ]
    if len(parts) == 1:
        wanted += _LABELS
    beside: Mapping[str, str] = {
        posixpath.basename(other).lower(): other
        for other in names
        if posixpath.dirname(other) == folder and other != name
    }
    return next((beside[label] for label in wanted if label in beside), None)


def _is_labels(name: str) -> bool:
    return bool(set(posixpath.basename(name).lower().split("_")) & set(_LABELS))
