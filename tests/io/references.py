"""References, and files that claim to be some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arcsm_cli.io.reference_file import Reference, Spread, Typical

DIGEST = "0" * 64
KEPT = Reference(DIGEST, "rings:train", "1" * 64, 1000, 900, {"csm": Typical(-1.5, 0.25)})
SPREAD = Spread((3.0, 0.1), (0.1, 1e9), ((1.0, 0.5), (0.5, 2.0)))
GOOD: dict[str, Any] = {
    "checkpoint": DIGEST,
    "data": "x",
    "digest": DIGEST,
    "limit": 10,
    "count": 5,
    "statistics": {"csm": {"median": 1, "mad": 0.5}},
    "multiscale": None,
}
GOOD_SPREAD: dict[str, Any] = {"levels": [1, 0.1], "mean": [0, 1], "covariance": [[1, 0], [0, 1]]}


def encode(metadata: dict[str, str], **tensors: object) -> bytes:
    text = json.dumps({"__metadata__": metadata, **tensors}).encode()
    return len(text).to_bytes(8, "little") + text


def write(path: Path, content: Any, **metadata: str) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    fields = {"arcsm_format": "reference", "format_version": "3", "reference": text} | metadata
    path.write_bytes(encode(fields))
