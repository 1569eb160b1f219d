"""What files may hold as the names of columns of vectors."""

from collections.abc import Sequence

MOST_NAMES, LONGEST_NAME = 1 << 20, 200
"""So many names, of so many characters."""


def sound_names(names: Sequence[object], count: int) -> bool:
    """Whether these are the names of ``count`` columns: short texts, all different.

    Example:
        >>> sound_names(["age", "pay"], 2), sound_names(["age", "age"], 2)
        (True, False)
    """
    return (
        len(names) == count <= MOST_NAMES
        and all(isinstance(name, str) and 0 < len(name) <= LONGEST_NAME for name in names)
        and len(set(names)) == count
    )
