"""HDF5's global heaps, walked before the HDF5 library walks them.

The library follows the sizes within a heap of variable-length texts without a checksum to protect
it, and never comes back from some damaged ones. So each heap is found by its signature and its
sizes are added up here first.
"""

from typing import IO

from arcsm_cli.errors import DamagedInputError

_SIGNATURE = b"GCOL\x01\0\0\0"
_BLOCK = 4 << 20
_HEAD = 16  # bytes in front of a heap's first object, and of each object's content
_MAX_HEAP = 64 << 20
_MAX_OBJECTS = 100_000


def check_heaps(file: IO[bytes], name: str) -> None:
    """Check every global heap of an HDF5 file.

    Args:
        file: open for reading in binary.
        name: what messages call the file.

    Raises:
        DamagedInputError: an object of a heap does not lie within it, or a heap is unreasonably
            large, or the file counts in units other than 64 bits, as no writer in use does.
    """
    file.seek(8)
    head = file.read(8)
    widths = head[5:7] if head[:1] in (b"\0", b"\1") else head[1:3]
    if widths != b"\x08\x08":
        raise DamagedInputError(f"{name}: is damaged HDF5: addresses are not of 64 bits")
    for place in _places(file):
        if not _sound(file, place):
            raise DamagedInputError(f"{name}: is damaged HDF5: broken heap at byte {place}")


def _places(file: IO[bytes]) -> list[int]:
    places = []
    start = 0
    file.seek(0)
    block = file.read(_BLOCK)
    while block:
        found = block.find(_SIGNATURE)
        while found >= 0:
            places.append(start + found)
            found = block.find(_SIGNATURE, found + 1)
        more = file.read(_BLOCK)
        if not more:
            break
        rest = block[1 - len(_SIGNATURE) :]  # the signature may lie across the border
        start += len(block) - len(rest)
        block = rest + more
    return places


def _sound(file: IO[bytes], place: int) -> bool:
    file.seek(place + len(_SIGNATURE))
    size = int.from_bytes(file.read(8), "little")
    if not _HEAD <= size <= _MAX_HEAP:
        return False
    position = _HEAD
    for _ in range(_MAX_OBJECTS):
        if size - position < _HEAD:
            return True
        file.seek(place + position)
        head = file.read(_HEAD)
        index = int.from_bytes(head[:2], "little")
        length = int.from_bytes(head[8:], "little")
        # Object 0 is the free space, whose length counts its own head.
        step = length if index == 0 else _HEAD + length + -length % 8
        if len(head) < _HEAD or step < _HEAD or step > size - position:
            return False
        position += step
    return False
