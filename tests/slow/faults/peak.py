"""The most memory that a process has held, for a process forked off a large one."""

from pathlib import Path


class _Peak:
    def __init__(self, report: str) -> None:
        self._report = report
        # What the process it was forked off had held once is not its own.
        Path("/proc/self/clear_refs").write_text("5")

    def finish(self) -> None:
        """The program has ended: write down how many bytes it was."""
        lines = Path("/proc/self/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        Path(self._report).write_text(str(int(peak) * 1024))


def install(report: str) -> _Peak:
    """Measure this process from here on; see `tests.cli.preloaded`."""
    return _Peak(report)
