"""The weights of the Inception v3 network behind fid and kid: found, fetched and read safely.

The network is that of torch-fidelity, which converted it from the TensorFlow graph of the first
FID (Heusel et al. 2017). Its own code would fetch the weights unasked and unpickle whatever is in
the file. Here nothing is fetched without leave, and the one pickled file that is read is the
published one, known by its SHA-256; all other weights come as safetensors.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from arcsm_cli.data.download import ensure
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UnavailableError
from arcsm_cli.io.streams import label, local_input, show
from arcsm_cli.io.tensor_file import check_header, complaints

FOLDER = "inception-v3"
URL = (
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
    "weights-inception-2015-12-05-6726825d.pth"
)
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

MAX_BYTES = 256 << 20
"""No file of weights may be longer: the published one has 91 MiB, in float64 it would have 182."""

_DTYPES = {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64}


class FeatureWeights(NamedTuple):
    """Weights as read: finite tensors by the names in their file, and the file's SHA-256."""

    tensors: dict[str, Tensor]
    digest: str


def find_weights(given: str | None, options: DataOptions) -> str:
    """Return which file holds the weights: the one given, else the one in the data folder.

    Arguments:
        given: ``--feature-weights``.
        options: where the data folder is, and whether it may be filled from the network.

    Raises:
        UnavailableError: none is given, and none there; or the download failed.
        OutputError: the data folder cannot be written.
    """
    if given is not None:
        return given
    folder, file = options.root / FOLDER, URL.rpartition("/")[2]
    if not (folder / file).exists() and not options.download:
        raise UnavailableError(
            "fid and kid need the weights of Inception v3: fetch them with --download, or name "
            "their file with --feature-weights"
        )
    ensure(FOLDER, folder, [file], options, _fetch)
    return str(folder / file)


def read_weights(source: str) -> FeatureWeights:
    """Read weights from a safetensors file, or from the published file that PyTorch pickled.

    The bytes are read once, so that the file whose SHA-256 is looked at and the one that is loaded
    are the same. What is neither safetensors nor the published file is not looked into.

    Raises:
        MissingInputError: the file does not exist or cannot be read.
        DamagedInputError: it is damaged, of another kind, or too large.
    """
    name = label(source)
    with local_input(source) as path, open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise DamagedInputError(
                f"{name}: has {size} bytes, more than the {MAX_BYTES} that weights may take"
            )
        content = file.read(size)
        digest = hashlib.sha256(content).hexdigest()
        if digest == SHA256:
            tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            return FeatureWeights(tensors, digest)
        if content[8:9] == b"{" and b"\0" in content[:8]:
            return FeatureWeights(_read_safetensors(content, name), digest)
    raise DamagedInputError(
        f"{name}: is neither a safetensors file nor the published PyTorch file (SHA-256 "
        f"{SHA256[:8]}...), the only one of that kind that is read: other weights are taken as "
        ".safetensors"
    )


def _fetch(staging: Path) -> None:
    torch.hub.download_url_to_file(URL, str(staging / URL.rpartition("/")[2]), hash_prefix=SHA256)


def _read_safetensors(content: bytes, name: str) -> dict[str, Tensor]:
    check_header(io.BytesIO(content), name)
    with complaints(name):
        tensors = safetensors.torch.load(content)
    for key, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise DamagedInputError(f"{name}: tensor {show(key)} is {tensor.dtype}")
        if not tensor.numel():
            raise DamagedInputError(f"{name}: tensor {show(key)} is empty")
        if not tensor.isfinite().all():
            raise DamagedInputError(f"{name}: tensor {show(key)} holds NaN or infinite values")
    return tensors
