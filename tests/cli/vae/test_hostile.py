"""Files of VAEs that are damaged, or made to harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.cli.preloaded import Done

Call = Callable[..., "Done"]


@pytest.fixture
def overflowing(vaes: Any, tmp_path: Path) -> Callable[..., Path]:
    """Writes a sound file of a VAE whose weights are finite, but not what comes of them."""

    def write(method: str) -> Path:
        from arcsm_cli.io.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

        good = load_checkpoint(vaes(method))
        tensors = {k: t.sign() * 3e38 if t.dim() > 1 else t for k, t in good.tensors.items()}
        path = tmp_path / "huge.safetensors"
        changed = Checkpoint(good.kind, good.config, good.training, good.provenance, tensors)
        save_checkpoint(path, changed)
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("method", ["elbo", "csm", "ssm"])
@pytest.mark.parametrize(
    "arguments",
    [
        "sample FILE -n 3 -o out.h5",
        "eval FILE digits --limit 3 -o out.h5",
        "eval FILE digits --limit 3 --metric ais --temperatures 4 -o out.h5",
        "plot FILE --data digits -n 3 -o out.png",
        "plot FILE --data digits --latent -n 3 -o out.png",
    ],
)
def test_weights_that_overflow_are_refused_or_make_no_difference(
    arguments: str, method: str, overflowing: Any, call: Call, tmp_path: Path
) -> None:
    path = overflowing(method)
    done = call(*(path.name if word == "FILE" else word for word in arguments.split()))
    if done.code == 0:  # sign functions have finite values
        assert done.err == ""
        return
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert path.name in done.err or "not numbers" in done.err
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def _changed(path: Path, target: Path, **changes: Any) -> None:
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    values = json.loads(header["__metadata__"]["config"]) | changes
    header["__metadata__"]["config"] = json.dumps(values)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    target.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


@pytest.mark.parametrize(
    "change",
    [
        {"latent_dim": 3},
        {"method": "ssm"},
        {"method": "unknown"},
        {"hidden": [1 << 14, 1 << 14]},
        {"latent_dim": 10**400},
        {"shape": [1, 1 << 30, 1 << 30]},
        {"data_scale": [0.0]},
        {"particles": 0},
        {"network": "conv"},
        {"surprise": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "arguments",
    ["sample FILE -n 2 -o s.h5", "eval FILE digits", "plot FILE --data digits -o f.png"],
)
def test_a_vae_that_is_not_what_it_claims_is_refused(
    arguments: str, change: dict[str, Any], vaes: Any, apart: Call, tmp_path: Path
) -> None:
    _changed(vaes("csm"), tmp_path / "hostile", **change)
    done = apart(*("hostile" if word == "FILE" else word for word in arguments.split()))
    assert (done.code, done.out, done.err.count("\n")) == (65, b"", 1)
    assert done.err.startswith(f"arcsm {arguments.split()[0]}: hostile")
    assert done.memory < 256 << 20
    assert [p.name for p in tmp_path.iterdir()] == ["hostile"]
