"""A real SLURM of two pretended nodes, and jobs in it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPTS = HERE.parents[2] / "docs" / "cluster"
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")
_SYSTEM = os.pathsep.join(("/usr/sbin", "/sbin"))
_TIME = 300  # seconds, then a job counts as stuck
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
_SMALL = "--mem=1G --cpus-per-task=1"


class Cluster:
    """The cluster seen from a folder that jobs are submitted in."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment

    def run(self, *command: object) -> str:
        """Runs a command of SLURM's, or a script, and returns what it prints."""
        done = subprocess.run(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment | {"SBATCH": _SMALL},
            capture_output=True,
            text=True,
            timeout=_TIME,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout.strip()

    def submit(self, script: str, *arguments: object, options: str = "") -> str:
        """Submits one of the scripts of docs/cluster; returns the job's number."""
        options = f"{_SMALL} {options}"
        return self.run("sbatch", "--parsable", *options.split(), SCRIPTS / script, *arguments)

    def state(self, job: str) -> str:
        """The state of a job; of an array the first that has not ended well."""
        shown = self.run("scontrol", "show", "job", "--oneliner", job)
        states = [word[9:] for word in shown.split() if word.startswith("JobState=")]
        return next((state for state in states if state != "COMPLETED"), "COMPLETED")

    def wait(self, job: str) -> str:
        """Waits for a job's end and returns its state."""
        self.until(lambda: self.state(job) in _ENDED, f"job {job} ends", pause=0.7)
        return self.state(job)

    def until(self, is_so: Callable[[], bool], what: str, pause: float = 0.05) -> None:
        """Waits until something is so."""
        deadline = time.monotonic() + _TIME
        while not is_so():
            logs = "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))
            assert time.monotonic() < deadline, f"never so: {what}\n{logs}"
            time.sleep(pause)

    def log(self, job: str, name: str = "arcsm") -> str:
        """What a job has printed."""
        return (self.folder / f"{name}-{job}.log").read_text()


def _why_not() -> str:
    missing = [
        p for p in _PROGRAMS if shutil.which(p, path=f"{os.environ['PATH']}:{_SYSTEM}") is None
    ]
    if missing:
        return f"SLURM is not installed here: no {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "only root can start SLURM's daemons"


@pytest.fixture(scope="session")
def slurm(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory, worker_id: str
) -> Iterator[dict[str, str]]:
    """The environment in which SLURM's commands find the cluster."""
    if why := _why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm")
    folder.parent.chmod(0o755)  # munge wants to know that nobody else can write there
    worker = int(worker_id.removeprefix("gw")) if worker_id != "master" else 0
    port = 17_000 + 10 * worker + 100 * (os.getpid() % 50)
    script = HERE / "slurm.sh"
    started = subprocess.run(
        [script, "start", folder, str(port)], capture_output=True, text=True, timeout=_TIME
    )
    if started.returncode != 0:  # as in containers that forbid one thing or another
        pytest.skip(f"SLURM's daemons do not start here: {started.stderr.strip()[-300:]}")
    path = os.pathsep.join((str(Path(sys.executable).parent), environment["PATH"], _SYSTEM))
    yield environment | {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": path,
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run([script, "stop", folder], timeout=_TIME, check=False)


@pytest.fixture
def cluster(slurm: dict[str, str], tmp_path: Path) -> Cluster:
    """The cluster, and a folder of its own to submit jobs in."""
    return Cluster(tmp_path, slurm)
