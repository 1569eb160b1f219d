"""Where a process finds out which of several it is."""

import socket

import pytest

from arcsm_cli.distributed import launch as module
from arcsm_cli.distributed.launch import Launch, first_host, launched, meeting_place, step_name
from arcsm_cli.errors import UnavailableError, UsageError

STEP = {
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_PROCID": "4",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "3(x2)",
    "SLURM_STEP_NODELIST": "n[7-8]",
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
    "SLURM_CLUSTER_NAME": "c",
}


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves nothing of the launcher that runs the tests."""
    for name in (*STEP, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", module.SWITCH):
        monkeypatch.delenv(name, raising=False)
    for name in ("MASTER_ADDR", "MASTER_PORT", "SLURM_JOB_NODELIST", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes this a task of a step of srun."""
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)


def test_a_plain_process_is_alone() -> None:
    assert launched() == Launch()
    assert launched().is_first


@pytest.mark.usefixtures("step")
def test_a_task_of_srun_is_told_by_the_step() -> None:
    assert launched() == Launch(4, 6, 1, 3, "srun")


def test_a_batch_script_with_many_tasks_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "6")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert launched().size == 1


@pytest.mark.usefixtures("step")
def test_torchruns_variables_come_before_those_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"MASTER_ADDR is not.*{module.SWITCH}=0"):
        launched()  # variables left over from another run
    for name, value in {"MASTER_ADDR": "n1", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    assert launched() == Launch(1, 2, 1, 1, "torchrun")


@pytest.mark.usefixtures("step")
def test_the_switch_makes_tasks_runs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.SWITCH, "0")
    assert launched().size == 1


@pytest.mark.usefixtures("step")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SLURM_PROCID", "6", "process 6 of 6"),
        ("SLURM_STEP_NUM_TASKS", "many", "SLURM_STEP_NUM_TASKS=many"),
    ],
)
def test_an_inconsistent_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        launched()


@pytest.mark.usefixtures("step")
def test_a_step_meets_at_its_first_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: [host])
    address, port = meeting_place()
    assert address == "n7"
    assert 20_000 <= port < 32_768
    monkeypatch.setenv("MASTER_ADDR", "elsewhere")
    monkeypatch.setenv("MASTER_PORT", "1234")
    assert meeting_place() == ("elsewhere", 1234)


@pytest.mark.usefixtures("step")
def test_a_machine_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnavailableError, match=r"n7.*set MASTER_ADDR"):
        meeting_place()


@pytest.mark.usefixtures("step")
@pytest.mark.parametrize(
    "name", ["SLURM_CLUSTER_NAME", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"]
)
def test_no_two_steps_have_one_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    before = step_name()
    monkeypatch.setenv(name, "77")
    assert step_name() != before


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[3-5]", "n3"), ("n[003,7]", "n003"), ("a,b", "a"), ("", "")],
)
def test_the_first_host_of_a_list(nodes: str, first: str) -> None:
    assert first_host(nodes) == first
