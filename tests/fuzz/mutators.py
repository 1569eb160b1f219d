"""Changes to files that stay well-formed where a checksum or a length would stop any other change.

Each takes the bytes of a file and a source of randomness and returns other bytes; a file that is
not well-formed any more is changed blindly instead.
"""

import gzip
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

Mutator = Callable[[bytes, random.Random], bytes]

# Where readers go wrong: signs, widths, what Python takes and others do not, control characters.
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 255, 256, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40),
    *((1 << 63) - 1, 1 << 63, 1 << 64, 10**30, 10**400, -(1 << 63), 0.5, -0.0, 1e-320, 1e308),
)
TEXTS = ("", "a", "samples", "\n", "\x1b[31m", "\ud800", "\0", "x" * 300, "²", "1e999", "../x", "/")
LITERALS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, '{"a":1,"a":2}')
_MARK = "\x00literal\x00"


def in_place(data: bytes, rng: random.Random) -> bytes:
    """Change as `blindly` does, with everything else left where it is."""
    return blindly(data, rng, kinds=5)


def blindly(data: bytes, rng: random.Random, kinds: int = 6) -> bytes:
    """Change a few bytes, or numbers of several bytes, mostly near bytes that are not zero."""
    content = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        place = rng.randrange(len(content))
        for _ in range(8):
            if content[place]:
                break
            place = rng.randrange(len(content))
        place = max(0, min(len(content) - 1, place + rng.randint(-2, 2)))
        match rng.randrange(kinds):
            case 0:
                content[place] = rng.randrange(256)
            case 1:
                content[place] ^= 1 << rng.randrange(8)
            case 2 | 3:
                width = rng.choice((1, 2, 4, 8))
                value = rng.choice(
                    (0, 1, -1, 1 << 8 * width - 1, len(content), rng.getrandbits(16))
                )
                order = rng.choice(("little", "big"))
                number = (value % (1 << 8 * width)).to_bytes(width, order)  # type: ignore[arg-type]
                content[place : place + width] = number[: len(content) - place]
            case 4:
                start, size = rng.randrange(len(content)), rng.choice((1, 4, 8, 32))
                size = min(size, len(content) - max(start, place))
                content[place : place + size] = content[start : start + size]
            case _:
                size = rng.choice((1, 2, 8, 64))
                if rng.random() < 0.5:
                    del content[place : place + size]
                    content = content or bytearray(1)
                else:
                    content[place:place] = content[place : place + size]
    return bytes(content)


def hostile_json(text: str, rng: random.Random) -> str:
    """Change a JSON text: a value, a key, the nesting; sometimes to what only looks like JSON."""
    tree = json.loads(text)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _changed(tree, rng)
    text = json.dumps(tree)
    while json.dumps(_MARK) in text:
        text = text.replace(json.dumps(_MARK), rng.choice(LITERALS), 1)
    return text


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(8):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return value | {rng.choice(TEXTS): _hostile(rng)}
            case _:
                return value | {key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        match rng.randrange(6):
            case 0:
                return value[:place] + value[place + 1 :]
            case 1:
                return value[:place] + [value[place]] * rng.choice((2, 3, 40)) + value[place:]
            case _:
                return [*value[:place], _changed(value[place], rng), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.4:
        return value + rng.choice((-1, 1, value, 1 << rng.randrange(70)))
    return _hostile(rng)


def _hostile(rng: random.Random) -> Any:
    deep: Any = 1
    for _ in range(rng.choice((1, 5, 40))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    return rng.choice((None, True, rng.choice(NUMBERS), rng.choice(TEXTS), [], {}, deep, _MARK))


def safetensors(data: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file, the JSON in its metadata, or the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    text, body = data[8:end].decode(), data[end:]
    header = json.loads(text)
    metadata = header.get("__metadata__", {})
    inner = [k for k, v in metadata.items() if v[:1] in ("{", "[")]
    match rng.randrange(6):
        case 0 | 1 | 2 if inner:
            key = rng.choice(inner)
            metadata[key] = hostile_json(metadata[key], rng)
            text = json.dumps(header)
        case 3:
            body = blindly(body, rng)
        case _:
            text = hostile_json(text, rng)
    encoded = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:  # tensors as long as the header says
        body = (body + bytes(4096))[: _declared(text)]
    return len(encoded).to_bytes(8, "little") + encoded + body


def _declared(text: str) -> int:
    try:
        found = [v["data_offsets"][1] for k, v in json.loads(text).items() if k != "__metadata__"]
        return max(0, max(found, default=0))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return 0


def npz(data: bytes, rng: random.Random) -> bytes:
    """Change the members of a zip archive, their names and how they are packed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, content in members:
            match rng.randrange(6):
                case 0:
                    name = rng.choice(
                        ("x.npy", "labels.npy", "images.npy", "y.npy", "../a.npy", "b")
                    )
                case 1 | 2:
                    content = npy(content, rng)
                case 3:
                    content = blindly(content, rng)
            method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
            for _ in range(rng.choice((1, 1, 1, 2))):
                archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def npy(data: bytes, rng: random.Random) -> bytes:
    """Change the header of an .npy file, its length and its padding following."""
    length = int.from_bytes(data[8:10], "little")
    header, body = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    kinds = ("<f4", ">f8", "|u1", "<i8", "|b1", "|O", "<U4", "<f16", "<c8", "<f2", "|V4", "<M8[s]")
    shapes = ("()", "(1,)", "(2, 3)", "(0, 3)", "(1, 2, 3)", "(2, 2, 2, 2)", "(1,) * 9", "(-1,)")
    match rng.randrange(5):
        case 0:
            header = _put(header, "'descr': ", repr(rng.choice(kinds)))
        case 1:
            size = str(rng.choice(NUMBERS))
            header = _put(header, "'shape': ", rng.choice((*shapes, f"({size}, 2)", f"({size},)")))
        case 2:
            header = _put(
                header, "'fortran_order': ", rng.choice(("True", "1", "None", "-" * 3000))
            )
        case 3:
            header = blindly(header.encode("latin-1"), rng).decode("latin-1")
        case _:
            body = blindly(body, rng)
    encoded = header.encode("latin-1", "replace")
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(encoded) & 0xFFFF) + encoded + body


def _put(header: str, key: str, value: str) -> str:
    before, found, after = header.partition(key)
    end = after.find(", '")
    return before + found + value + (after[end:] if end >= 0 else "}")


def png(data: bytes, rng: random.Random) -> bytes:
    """Change the chunks of a PNG file, their checksums following; other images blindly."""
    chunks, place = [], 8
    while data.startswith(b"\x89PNG") and place + 12 <= len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    if not chunks:
        return blindly(data, rng)
    place = rng.randrange(len(chunks))
    kind, content = chunks[place]
    match rng.randrange(6):
        case 0:
            del chunks[place]
        case 1:
            chunks.insert(rng.randrange(len(chunks)), chunks[place])
        case 2:
            kind = rng.choice(
                (b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"iTXt", b"acTL", b"fdAT", b"IDAT")
            )
            chunks.insert(place, (kind, blindly(content, rng)))
        case 3 if kind == b"IDAT":
            chunks[place] = (kind, zlib.compress(blindly(zlib.decompress(content), rng)))
        case _:
            chunks[place] = (kind, blindly(content, rng))
    parts = [data[:8]]
    for kind, content in chunks:
        crc = zlib.crc32(kind + content)
        parts += [struct.pack(">I", len(content)), kind, content, struct.pack(">I", crc)]
    return b"".join(parts)


def mat(data: bytes, rng: random.Random) -> bytes:
    """Change what a MATLAB file holds within its compressed elements."""
    parts, place = [data[:128]], 128
    while place + 8 <= len(data):
        kind, size = struct.unpack("<II", data[place : place + 8])
        content = data[place + 8 : place + 8 + size]
        if kind == 15 and rng.random() < 0.6:
            content = zlib.compress(blindly(zlib.decompress(content), rng))
        elif rng.random() < 0.4:
            content = blindly(content, rng)
        parts.append(struct.pack("<II", kind, len(content)) + content)
        place += 8 + size
    return b"".join(parts)


def packed(data: bytes, rng: random.Random) -> bytes:
    """Change what a gzip file holds, anything else blindly."""
    if data[:2] != b"\x1f\x8b":
        return blindly(data, rng)
    return gzip.compress(blindly(gzip.decompress(data), rng), mtime=0)


def words(*found: str) -> Mutator:
    """A change of a text: a piece of it becomes one of these words."""

    def change(data: bytes, rng: random.Random) -> bytes:
        text = data.decode("utf-8", "surrogateescape")
        for _ in range(rng.choice((1, 1, 2, 4))):
            start = rng.randrange(len(text) + 1)
            size = rng.choice((0, 0, 1, 2, 5, 20))
            word = rng.choice(found) * rng.choice((1, 1, 1, 2, 50))
            text = text[:start] + word + text[start + size :]
        return text.encode("utf-8", "surrogateescape")

    return change


def after_the_first(change: Mutator) -> Mutator:
    """The first byte, by which a target chooses its reader, stays."""
    return lambda data, rng: data[:1] + change(data[1:], rng)


def mutated(data: bytes, change: Mutator, rng: random.Random) -> bytes:
    """Apply a change, or a blind one where the bytes are no file of its kind any more."""
    if rng.random() < 0.3:
        return blindly(data, rng)
    try:
        return change(data, rng)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, EOFError,
            RuntimeError, struct.error, zlib.error, zipfile.BadZipFile):  # fmt: skip
        return blindly(data, rng)
