"""What the shared options mean."""

from typing import Annotated

import pytest

from arcsm_cli.cli.command import build_command
from arcsm_cli.cli.groups import Without
from arcsm_cli.cli.options import resolve_device
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import UnavailableError, UsageError


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def two_cuda_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["auto", "cpu"])
@pytest.mark.usefixtures("no_accelerator")
def test_without_an_accelerator_the_cpu_computes(name: str) -> None:
    assert resolve_device(name) == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
@pytest.mark.usefixtures("no_accelerator")
def test_an_absent_device_is_unavailable(name: str) -> None:
    with pytest.raises(UnavailableError, match=f"--device {name}: "):
        resolve_device(name)


@pytest.mark.parametrize(
    ("name", "device"), [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")]
)
@pytest.mark.usefixtures("two_cuda_devices")
def test_a_cuda_device_goes_by_its_number(name: str, device: str) -> None:
    assert resolve_device(name) == device


@pytest.mark.usefixtures("two_cuda_devices")
def test_a_number_beyond_the_devices_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPU", "auto:1"]
)
def test_a_name_of_no_device_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError, match=f"--device {name}: expected"):
        resolve_device(name)


def test_flags_of_a_group_become_the_group_with_the_commands_own_seed() -> None:
    def run(*, seed: int = 0, options: DataOptions) -> None:
        got.append(options)

    got: list[DataOptions] = []
    command = build_command("probe", run)
    with command.make_context("probe", ["--limit", "3", "--resize", "32", "--seed", "5"]) as given:
        command.invoke(given)
    assert got == [DataOptions(limit=3, resize=32, seed=5)]


def test_a_field_left_out_is_not_taken_for_an_option_of_its_name() -> None:
    def run(*, columns: int = 1, options: Annotated[DataOptions, Without("columns")]) -> None:
        got.append((columns, options))

    got: list[tuple[int, DataOptions]] = []
    command = build_command("probe", run)
    with command.make_context("probe", ["--columns", "4"]) as given:
        command.invoke(given)
    assert got == [(4, DataOptions())]
