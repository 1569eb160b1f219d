"""Small sound files, made by the project's own writers: where fuzzing starts from."""

import gzip
import io
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def _written(write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "seed")
        write(path)
        return path.read_bytes()


def checkpoints() -> list[bytes]:
    """Models of every kind, and a resume file."""
    import torch

    from arcsm_cli.data.conditions import Condition
    from arcsm_cli.io.checkpoint import Checkpoint, save_checkpoint, save_resume
    from arcsm_cli.models.config import ModelConfig
    from arcsm_cli.models.restore import make_model
    from arcsm_cli.models.vae import VAE
    from arcsm_cli.models.vae_config import VAEConfig
    from arcsm_cli.registry import METHODS

    small: dict[str, Any] = {"context_width": 2, "score_hidden": (2, 2)}
    vectors: dict[str, Any] = small | {"shape": (3,), "hidden": (4,), "levels": (1.0, 0.1)}
    images: dict[str, Any] = {"shape": (1, 4, 4), "context": "pixelcnn", "filters": 2,
                              "resnet_blocks": 1, "annealing": "none",
                              "levels": (0.0,)}  # fmt: skip
    scaled: dict[str, Any] = {"data_shift": (0.5,), "data_scale": (0.5,)}
    discrete = {"likelihood": "discretized-logistic-mixture", "components": 2, "context_width": 6}
    configs: list[Any] = [
        ModelConfig(**vectors, order="random"),
        ModelConfig(**vectors, annealing="staged"),
        ModelConfig(**vectors, given=(Condition("y", ("a", "b"), (1, 2)), Condition("z"))),
        ModelConfig(**vectors | {"likelihood": "gaussian", "annealing": "none", "levels": (0.1,)}),
        ModelConfig(**images | scaled | discrete),
        *(VAEConfig(shape=(4,), latent_dim=2, hidden=(3, 3), method=m, **small) for m in METHODS),
        VAEConfig(shape=(1, 4, 4), latent_dim=2, hidden=(3, 3), network="conv", channels=(2,),
                  decoder="gaussian", **small),
    ]  # fmt: skip
    found = []
    for config in configs:
        model = make_model(config)
        kind = model.kind if not isinstance(model, VAE) else VAE.kind
        tensors = {k: p.detach().float() for k, p in model.named_parameters()}
        training = {"step": 2, "history": [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]}
        chain = [{"command": "train", "arguments": ["rings"], "seed": 1, "inputs": {"a": "b"}}]
        checkpoint = Checkpoint(kind, config.to_dict(), training, chain, tensors)
        found.append(_written(lambda path, c=checkpoint: save_checkpoint(path, c)))  # type: ignore[misc]
    moments = {"a": torch.ones(2), "b": torch.zeros(1, dtype=torch.float64)}
    found.append(_written(lambda path: save_resume(path, moments, {"step": 1, "epoch": [1, 2]})))
    return found


def references() -> list[bytes]:
    """The typical statistics of a model."""
    from arcsm_cli.io.reference_file import Reference, Spread, Typical, save_reference

    spread = Spread((1.0, 0.1), (0.0, 1.0), ((1.0, 0.5), (0.5, 1.0)))
    typical, vectors = {"score-norm": Typical(1.0, 0.5)}, np.ones((3, 2), np.float32)
    found = [
        Reference("0" * 64, "rings", "f" * 64, 10, 9, typical, *each)
        for each in ((None,), (spread,), (spread, vectors))
    ]
    return [_written(lambda path, r=r: save_reference(str(path), r)) for r in found]  # type: ignore[misc]


def sample_files() -> list[bytes]:
    """Sample files: by the project's writer, and as h5py users would lay them out."""
    from arcsm_cli.io.samples import SampleWriter

    def ours(path: Path) -> None:
        with SampleWriter(path, (2,), [{"command": "sample"}]) as writer:
            one = np.ones((8, 2))
            writer.append(one, clean=one, labels=np.arange(8), statistics={"nll": np.zeros(8)})

    packing: list[dict[str, Any]] = [
        {},
        {"chunks": (2, 2), "maxshape": (None, 2)},
        {"chunks": (2, 2), "compression": "gzip", "shuffle": True},
        {"chunks": (2, 2), "compression": "lzf", "fletcher32": True},
    ]
    found = [_written(ours)]
    for options, libver in itertools.product(packing, ("earliest", "latest")):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w", libver=libver) as file:
            file.attrs.update(format="arcsm-samples", format_version=1, provenance="[]")
            data = np.arange(16, dtype=np.float32).reshape(8, 2)
            file.create_dataset("samples", data=data, **options)
            file["labels"] = np.arange(8)
            file["statistics/nll"] = np.zeros(8, np.float32)
        found.append(buffer.getvalue())
    return found


def comparisons() -> list[bytes]:
    """Results of an experiment."""
    from arcsm_cli.io.comparison_file import Comparison, save_comparison

    table = {"step": np.arange(3.0), "method": np.array(["csm", "dsm", "csm"])}
    found = Comparison("cost", {"steps": 3}, {"losses": table}, [{"command": "compare"}])
    return [_written(lambda path: save_comparison(path, found))]


def arrays() -> list[bytes]:
    """NumPy files of vectors and images, plain and packed."""
    vectors, images = np.ones((3, 2), np.float32), np.zeros((2, 3, 4, 4), np.uint8)
    found = []
    for array in (vectors, np.asfortranarray(vectors), images, images[0] / 1.0, vectors > 0):
        buffer = io.BytesIO()
        np.save(buffer, array)
        found.append(buffer.getvalue())
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, images=images, labels=np.arange(2))
        found.append(buffer.getvalue())
    return found


def tables() -> list[bytes]:
    """Tables of numbers with every delimiter."""
    found = [
        "a;b\n1;2.5\n3;4\n", "1\t2\n3\t4\n", "# comment\n\n1,2\n3,4\n", "1 2\n3 4\n", '"1","2"\n',
        "\ufeffx,y\r\n1e3,-0\r\n", "1\n2\n3\n", "a b,c\n1,2\n",
    ]  # fmt: skip
    return [text.encode() for text in found]


def images() -> list[bytes]:
    """Small pictures in every format that is read."""
    from PIL import Image

    rng = np.random.default_rng(0)
    found = []
    for kind, mode in (
        *(("PNG", mode) for mode in ("L", "RGB", "RGBA", "P", "1", "I;16")),
        *(("JPEG", "L"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("BMP", "RGB"), ("BMP", "P")),
        *(("PPM", "RGB"), ("PPM", "L"), ("WEBP", "RGB"), ("TIFF", "RGB"), ("TIFF", "L")),
        *(("GIF", "P"), ("GIF", "L"), ("JPEG2000", "RGB"), ("AVIF", "RGB"), ("WEBP", "RGBA")),
    ):
        picture = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).convert(
            "L" if mode == "I;16" else mode
        )
        if mode == "I;16":
            picture = Image.fromarray(rng.integers(0, 65536, (8, 8), np.uint16))
        for options in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}):
            if options and kind != "TIFF":
                continue
            buffer = io.BytesIO()
            picture.save(buffer, kind, **options)
            found.append(buffer.getvalue())
    return found


def downloads() -> list[bytes]:
    """The data sets that are downloaded; the first byte says which, see `targets.downloads`."""
    from scipy.io import savemat

    idx = bytes([0, 0, 8, 3]) + np.array([2, 4, 4], ">u4").tobytes() + bytes(32)
    flat = bytes([0, 0, 8, 1]) + np.array([3], ">u4").tobytes() + bytes(3)
    cifar = bytes([3]) + bytes(3072)
    content = {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": np.array([[1], [10]])}
    found = [b"\0" + idx, b"\1" + flat, b"\2" + gzip.compress(idx, mtime=0), b"\3" + cifar]
    for packed in (False, True):
        buffer = io.BytesIO()
        savemat(buffer, content, do_compression=packed)
        found.append(b"\4" + buffer.getvalue())
    return [*found, b"\5" + b"000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n"]


def configs() -> list[bytes]:
    """Configuration files: the recipes of the documentation, and every kind of value."""
    folder = Path(__file__).parents[2] / "docs" / "recipes"
    kinds = 'steps = 10\nlr = 1e-3\nhidden = "8,8"\nquiet = true\ndata = "rings"\nsigma_max = 1\n'
    return [kinds.encode(), *(path.read_bytes() for path in sorted(folder.glob("*.toml")))]


def texts() -> list[bytes]:
    """JSON as it stands in files."""
    from arcsm_cli.io import bounded_json
    from arcsm_cli.models.config import ModelConfig
    from arcsm_cli.models.vae_config import VAEConfig

    values: list[Any] = [
        ModelConfig(shape=(3,), levels=(1.0, 0.1)).to_dict(),
        VAEConfig(shape=(1, 4, 4), latent_dim=2, network="conv", channels=(2,)).to_dict(),
        [{"command": "train", "arguments": ["a"], "seed": None, "inputs": {"x": "y"}, "n": 1.5}],
    ]
    return [bounded_json.dump(value).encode() for value in values]
