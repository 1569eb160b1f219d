"""``arcsm train --context pixelcnn``: images, grey and in colour, to samples and figures."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.cli.files import contents

if TYPE_CHECKING:
    from tests.cli.preloaded import Done, Running

Call = Callable[..., "Done"]
Start = Callable[..., "Running"]
Train = Callable[..., "Done"]

NETWORK = ("--context", "pixelcnn", "--filters", 4, "--resnet-blocks", 1)
SHORT = ("--steps", 2, "--batch-size", 8, "--limit", 40, "-o", "m.safetensors")


@pytest.fixture
def train(call: Call) -> Train:
    """Trains a tiny PixelCNN++ of digits for 2 steps, if not told otherwise."""

    def train(*options: object, data: object = "digits", network: Any = NETWORK) -> "Done":
        return call("train", data, *network, *SHORT, *options, "-q")

    return train


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour images in folders: ``split`` (PNG, 12 x 8 pixels), ``classes`` (JPEG, 8 x 8), odd."""
    from PIL import Image

    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    sets = {
        "split/train": (20, "png", (12, 8)),
        "split/test": (4, "png", (12, 8)),
        "classes/cat": (10, "jpg", (8, 8)),
        "classes/dog": (10, "jpg", (8, 8)),
        "odd": (10, "png", (10, 10)),
    }
    for name, (count, ending, size) in sets.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.{ending}")
    np.savez(root / "grey.npz", random.integers(0, 256, (20, 1, 8, 4), dtype=np.uint8))
    return root


def samples(path: Path) -> Any:
    from arcsm_cli.io.samples import SampleFile

    with SampleFile(path) as file:
        return file.read(0, len(file))


@pytest.mark.parametrize(
    ("objective", "data", "shape"),
    [
        ("csm", "classes", (3, 8, 8)),
        pytest.param("mle", "split", (3, 12, 8), marks=pytest.mark.slow),
        pytest.param("csm", "grey.npz", (1, 8, 4), marks=pytest.mark.slow),
    ],
)
def test_images_of_files_and_folders_are_modelled_in_their_shape(
    objective: str,
    data: str,
    shape: tuple[int, ...],
    train: Train,
    call: Call,
    pictures: Path,
    tmp_path: Path,
) -> None:
    assert train("--objective", objective, data=pictures / data).code == 0
    assert contents(tmp_path / "m.safetensors")[1]["shape"] == list(shape)
    quick = ("--steps", 1) if objective == "csm" else ()
    drawing = ("-n", 2, "-o", "s.h5", "--png", "s.png", *quick)
    assert call("sample", "m.safetensors", *drawing).code == 0
    drawn = samples(tmp_path / "s.h5")
    assert drawn.shape == (2, *shape)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    method = ("--method", "quadrature") if objective == "csm" else ()
    options = ("--limit", 2, "--metric", "bpd", *method, "--json")
    assert call("eval", "m.safetensors", pictures / data, *options).json["examples"] == 2


@pytest.mark.slow
def test_images_can_be_brought_to_sides_that_fit(
    train: Train, pictures: Path, tmp_path: Path
) -> None:
    assert train("--center-crop", 8, "--resize", 4, data=pictures / "odd").code == 0
    assert contents(tmp_path / "m.safetensors")[1]["shape"] == [3, 4, 4]


def test_options_reach_the_model_and_the_run(train: Train, tmp_path: Path) -> None:
    assert train("--dropout", 0.125, "--grad-accumulation", 2, "--context-width", 5).code == 0
    _, config, training = contents(tmp_path / "m.safetensors")
    expected = {"context": "pixelcnn", "filters": 4, "resnet_blocks": 1, "dropout": 0.125}
    assert expected.items() <= config.items()
    assert (config["context_width"], training["settings"]["grad_accumulation"]) == (5, 2)


@pytest.mark.slow
def test_a_size_stands_for_what_is_not_given(train: Train, tmp_path: Path) -> None:
    network = ("--context", "pixelcnn", "--size", "small", "--filters", 4, "--dropout", 0.5)
    assert train("--steps", 1, "--resize", 4, network=network).code == 0
    config = contents(tmp_path / "m.safetensors")[1]
    assert (config["filters"], config["resnet_blocks"], config["dropout"]) == (4, 2, 0.5)


# Refusals


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--dropout 1", "--dropout 1"),
        ("--dropout nan", "--dropout"),
        ("--dropout=-0.1", "--dropout"),
        ("--filters 0", "--filters"),
        ("--filters 4097", "--filters"),
        ("--resnet-blocks 0", "--resnet-blocks"),
        ("--resnet-blocks 65", "--resnet-blocks"),
        ("--size huge", "--size"),
        ("--order random", "--order random is for --context made"),
        ("--hidden 8", "--hidden is for --context made"),
        ("--hidden=", "--hidden is for --context made"),
        ("--residual", "--residual is for --context made"),
        ("--grad-accumulation 0", "--grad-accumulation"),
        ("--context made", "--filters is for --context pixelcnn"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_that_names_the_option(
    options: str, named: str, train: Train, tmp_path: Path
) -> None:
    done = train(*options.split())
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--size small", "--dropout 0", "--resnet-blocks 1"])
def test_options_of_pixelcnn_are_refused_without_it(
    option: str, train: Train, tmp_path: Path
) -> None:
    done = train(*option.split(), network=())
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{option.split()[0]} is for --context pixelcnn" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("gaussian:2", "gaussian:2:train holds vectors"),
        ("odd", "odd:train holds images of 3 x 10 x 10: use --resize"),
    ],
)
def test_data_that_do_not_fit_are_refused_with_what_they_are(
    data: str, says: str, train: Train, pictures: Path, tmp_path: Path
) -> None:
    done = train(data=data if ":" in data else pictures / data)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert "--context pixelcnn takes images" in done.err
    assert says in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--dropout 0.25", "--dropout is 0.25"),
        ("--grad-accumulation 2", "--grad-accumulation is 2"),
        ("--objective mle", "--objective is mle"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(
    option: str,
    named: str,
    call_in: Call,
    call: Call,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "finished pixelcnn"
    base = ("train", "digits", *NETWORK, *SHORT, "--resize", 4)
    if not folder.exists():
        folder.mkdir()
        assert call_in(folder, *base).code == 0
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    done = call(*base, "--resume", *option.split(), folder=folder)
    assert (done.code, done.out, done.err.count("\n")) == (2, b"", 1)
    assert named in done.err
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}


# Pipes and terminals
