"""What of DATA trained a model, and what is measured of it."""

from typing import Any

import numpy as np
import pytest
import torch

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.options import DataOptions
from arcsm_cli.data.sketch import SIZE, from_json, share_found, sketch_of, to_json
from arcsm_cli.data.spec import load_data, load_training
from arcsm_cli.evaluation.overlap import Trained
from arcsm_cli.io.checkpoint import Checkpoint


def points(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))


def trained_on(values: torch.Tensor, part: str = "", **inputs: str) -> Trained:
    return Trained(sketch_of([values]), len(values), part, inputs)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_a_large_set_is_estimated(share: float) -> None:
    x = points(4000)
    others = torch.cat([x[: round(share * len(x))], points(4000, 1)])
    assert share_found(sketch_of(x.split(700)), others.split(900)) == pytest.approx(share, abs=0.1)


def test_the_share_of_a_small_set_is_exact() -> None:
    x = points(SIZE)
    assert share_found(sketch_of([x]), [x[7:]]) == (SIZE - 7) / SIZE


def test_a_copy_in_single_precision_is_recognised() -> None:
    x = points(50).double() + 1 / 3
    assert share_found(sketch_of([x]), [x.float()]) == 1


def test_a_sketch_survives_json() -> None:
    sketch = sketch_of([points(500)])
    read = from_json(to_json(sketch))
    assert read is not None
    assert np.array_equal(read, sketch)


@pytest.mark.parametrize("values", [None, [], 3, ["x"], ["0" * 15], [1], ["z" * 16], ["-" * 16]])
def test_what_is_no_sketch_is_none(values: Any) -> None:
    assert from_json(values) is None


def test_unseen_examples_have_no_overlap() -> None:
    assert trained_on(points(100)).overlap(Dataset("x", points(100, 1))) == {}


def test_a_few_of_the_training_examples_are_noticed(caplog: pytest.LogCaptureFixture) -> None:
    x = points(100)
    found = trained_on(x).overlap(Dataset("x", torch.cat([x[:5], points(20, 1)])))
    assert found == {"overlap": {"training_examples": 0.05}}
    assert "about 5 of the 25 examples of x" in caplog.text


@pytest.mark.parametrize(("name", "part"), [("x", ""), ("x:train", "train"), ("x", "train")])
def test_the_same_input_is_noticed_without_a_sketch(name: str, part: str) -> None:
    data = Dataset(name, points(9))
    found = Trained(None, 0, part, {"x": data.digest}).overlap(data)
    assert found == {"overlap": {"training_examples": None}}


def test_another_split_of_the_same_input_is_unseen() -> None:
    data = Dataset("x:test", points(9))
    assert trained_on(points(9, 1), "train", x=data.digest).overlap(data) == {}


@pytest.mark.parametrize(("name", "noticed"), [("x::a", True), ("x", True), ("x::b", False)])
def test_another_array_of_the_same_file_is_unseen(name: str, noticed: bool) -> None:
    data = Dataset(name, points(9))
    found = Trained(None, 0, "train", {"x::a:train": data.digest}).overlap(data)
    assert bool(found) == noticed


def test_of_a_file_that_trained_the_model_the_test_split_is_measured(tmp_path: Any) -> None:
    path = str(tmp_path / "x.npy")
    np.save(path, points(300).numpy())
    given = load_training(path, DataOptions())
    trained = trained_on(given.train.values, given.part)

    def measured(spec: str, **options: int) -> str:
        given = DataOptions(**options)  # type: ignore[arg-type]
        return load_data(spec, given, default_split="test", part=trained.unseen).name

    assert measured(path) == measured(path, limit=3) == f"{path}:test"
    assert measured(f"{path}:all") == path
    np.save(tmp_path / "y.npy", points(300, 1).numpy())
    assert measured(str(tmp_path / "y.npy")) == str(tmp_path / "y.npy")


def test_the_examples_of_a_model_that_the_training_started_from_count() -> None:
    first, second = points(50), points(50, 1)

    def told(values: torch.Tensor) -> dict[str, Any]:
        return {"used": 50, "part": "", "sketch": to_json(sketch_of([values]))}

    training = {"examples": told(second) | {"before": [told(first)]}}
    entries = [{"command": "train", "arguments": [], "inputs": {}}] * 2
    trained = Trained.of(Checkpoint("ar-csm", {}, training, entries, {}))
    for values in (first, second):
        assert trained.overlap(Dataset("x", values)) == {"overlap": {"training_examples": 1.0}}
    assert trained.overlap(Dataset("x", points(50, 2))) == {}


@pytest.mark.parametrize(
    "examples",
    [None, [], {"before": 3}, {"before": [3], "used": "x", "part": 5}, {"used": 10**400}],
)
def test_a_checkpoint_that_tells_nonsense_of_its_examples_tells_nothing(examples: Any) -> None:
    training = {"examples": examples}
    trained = Trained.of(Checkpoint("ar-csm", {}, training, [{"command": "data"}], {}))
    assert trained.overlap(Dataset("x", points(5))) == {}
