"""Memory does not grow with the number of examples."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from arcsm_cli.io.samples import SampleWriter
from tests.cli.preloaded import Done

if TYPE_CHECKING:
    from tests.cli.preloaded import Running

# Files are written in blocks of 4 MiB, which the few images fill once (4.4 MB) and the many four
# times. Held as a whole those would take 13 MB more, and several times that with temporaries. Of
# the vectors, which take longer to draw, a generator for each would take 20 MB more.
IMAGES = {"few": 17_000, "many": 68_000}
VECTORS = {"few": 5_000, "many": 20_000}
ALLOWED = {"sample": 12 << 20, "merge": 8 << 20, "ood-score": 8 << 20, "eval": 12 << 20}

Peaks = dict[tuple[str, str], int]


@pytest.fixture(scope="module")
def peaks(
    start_in: Callable[..., "Running"],
    digits_model: Path,
    vector_model: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Peaks:
    """The most that commands hold, by command and number of examples."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell")
    folder = tmp_path_factory.mktemp("memory")
    found: Peaks = {}
    for count in ("few", "many"):
        _write(folder / f"{count}.h5", IMAGES[count])
        size = ("--batch-size", 500, "-q")
        drawing = ("-n", VECTORS[count], "--steps", 1, *size)
        scoring = (f"{count}.h5", "--no-perturb", *size)
        works: dict[str, tuple[object, ...]] = {
            "sample": ("sample", vector_model, *drawing, "-o", f"{count}.drawn"),
            "merge": ("merge", f"{count}.h5", "-q", "-o", f"{count}.merged"),
            "ood-score": (
                *("ood-score", digits_model, *scoring, "--statistic", "csm"),
                *("-o", f"{count}.scored"),
            ),
            "eval": ("eval", f"{count}.h5"),
        }
        for name, arguments in works.items():
            report = folder / "peak"
            done: Done = start_in(folder, *arguments, before=("peak", str(report))).wait()
            assert done.code == 0, done.err
            found[name, count] = int(report.read_text())
    return found


def _write(path: Path, count: int) -> None:
    with SampleWriter(path, (1, 8, 8), []) as writer:
        writer.append(np.random.default_rng(0).random((count, 1, 8, 8), np.float32))


def test_what_is_measured_is_there(peaks: Peaks) -> None:
    assert min(peaks.values()) > 10 << 20


@pytest.mark.parametrize("name", ALLOWED)
def test_many_examples_take_no_more_memory_than_few(name: str, peaks: Peaks) -> None:
    assert peaks[name, "many"] - peaks[name, "few"] <= ALLOWED[name]


def test_training_on_a_file_holds_a_pool_of_it_alone(
    start_in: Callable[..., "Running"], tmp_path: Path
) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the system does not tell")
    rng, found = np.random.default_rng(0), []
    # Both are larger than the pool, of 128 MiB: the second one takes 530 MB.
    for count in (225_000, 675_000):
        with h5py.File(tmp_path / "x.h5", "w") as file:
            images = file.create_dataset("images", (count, 28, 28), np.uint8)
            for start in range(0, count, 25_000):
                images[start : start + 25_000] = rng.integers(0, 256, (25_000, 28, 28), np.uint8)
        options = ("--stream", "yes", "--steps", 20, "--hidden", "8", "--batch-size", 32, "-q")
        report = tmp_path / "peak"
        done: Done = start_in(
            *(tmp_path, "train", "x.h5", *options, "--force", "-o", "m.safetensors"),
            before=("peak", str(report)),
        ).wait()
        assert done.code == 0, done.err
        found.append(int(report.read_text()))
    assert found[1] - found[0] < 32 << 20
