"""``--config FILE.toml``: what a file may say, what wins, and what is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer

from arcsm_cli.cli.command import build_command
from arcsm_cli.cli.invocation import invocation, run_program
from arcsm_cli.cli.options import Device
from arcsm_cli.cli.signals import SignalGuard


class Probe:
    """A command that keeps the values it is called with."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.values: dict[str, Any] = {}
        self.file = folder / "settings.toml"
        self._capsys = capsys

    def run(
        self,
        data: Annotated[str, typer.Argument()],
        more: Annotated[list[str] | None, typer.Argument()] = None,
        epochs: Annotated[int, typer.Option("--epochs", min=1)] = 10,
        steps: Annotated[int | None, typer.Option("--steps")] = None,
        sigma_min: Annotated[float | None, typer.Option("--sigma-min")] = None,
        metric: Annotated[list[str] | None, typer.Option("--metric", "-m")] = None,
        order: Annotated[Literal["raster", "random"], typer.Option("--order")] = "raster",
        log_dir: Annotated[Path | None, typer.Option("--log-dir")] = None,
        resume: Annotated[bool, typer.Option("--resume")] = False,
        ema: Annotated[bool, typer.Option("--ema/--no-ema")] = True,
        device: Device = "auto",
    ) -> None:
        """Keep the values."""
        self.values = {k: v for k, v in locals().items() if k != "self"}

    def __call__(self, settings: str, *arguments: str) -> tuple[int, str]:
        """Writes the settings, runs the command; returns the exit code and what stderr says."""
        self.file.write_text(settings)
        command = build_command("probe", self.run)

        def program(given: list[str]) -> None:
            with command.make_context("probe", given) as context:
                command.invoke(context)

        code = run_program(program, ["--config", str(self.file), *arguments], SignalGuard())
        return code, self._capsys.readouterr().err


@pytest.fixture
def probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Probe:
    return Probe(tmp_path, capsys)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("epochs = 3", "epochs", 3),
        ("sigma-min = 0.25", "sigma_min", 0.25),
        ("sigma_min = 0.25", "sigma_min", 0.25),
        ("sigma-min = 1", "sigma_min", 1.0),
        ("metric = ['nll', 'bpd']", "metric", ["nll", "bpd"]),
        ("metric = 'nll'", "metric", ["nll"]),
        ("order = 'random'", "order", "random"),
        ("log-dir = 'runs'", "log_dir", Path("runs")),
        ("resume = true", "resume", True),
        ("resume = false", "resume", False),
        ("ema = false", "ema", False),
        ("more = ['a', 'b']", "more", ["a", "b"]),
        ("data = '-'", "data", "-"),
    ],
)
def test_a_key_sets_the_option_or_argument_of_its_name(
    probe: Probe, line: str, name: str, value: object
) -> None:
    settings = line if name == "data" else f"data = 'mnist'\n{line}"
    assert probe(settings) == (0, "")
    assert probe.values[name] == value


def test_a_mark_before_the_text_is_no_part_of_it(probe: Probe) -> None:
    probe("\ufeffepochs = 3", "x")
    assert probe.values["epochs"] == 3


@pytest.mark.parametrize(
    ("line", "arguments", "name", "value"),
    [
        ("epochs = 3", ["--epochs", "4"], "epochs", 4),
        ("epochs = 3", ["--steps", "4"], "epochs", 10),
        ("metric = ['nll']", ["-m", "bpd"], "metric", ["bpd"]),
        ("data = 'mnist'", ["digits"], "data", "digits"),
        ("more = ['a']", ["digits", "b", "c"], "more", ["b", "c"]),
        ("ema = false", ["--ema"], "ema", True),
        ("resume = false", ["--resume"], "resume", True),
    ],
)
def test_the_command_line_wins(
    probe: Probe, line: str, arguments: list[str], name: str, value: object
) -> None:
    data = [] if name in ("data", "more") else ["digits"]
    assert probe(line, *data, *arguments) == (0, "")
    assert probe.values[name] == value


def test_the_file_wins_over_the_environment(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCSM_DEVICE", "mps")
    probe("data = 'digits'\ndevice = 'cpu'")
    assert probe.values["device"] == "cpu"


def test_the_environment_sets_what_neither_says(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCSM_DEVICE", "mps")
    probe("data = 'digits'")
    assert probe.values["device"] == "mps"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("quiet = true", "quiet", True),
        ("verbose = 2", "verbose", 2),
        ("debug = true", "debug", True),
    ],
)
def test_the_options_of_every_command_may_be_in_the_file(
    probe: Probe, line: str, name: str, value: object
) -> None:
    probe(f"data = 'digits'\n{line}")
    assert getattr(invocation(), name) == value


@pytest.mark.parametrize(
    ("line", "key", "advice"),
    [
        ("epoch = 3", "epoch", "did you mean 'epochs'?"),
        ("xyzzy = 3", "xyzzy", "the keys are data, more, epochs"),
        ("config = 'other.toml'", "config", "unknown key"),
        ("help = true", "help", "unknown key"),
        ("epochs = 'three'", "epochs", "expected a whole number, got 'three'"),
        ("epochs = 1.5", "epochs", "expected a whole number, got 1.5"),
        ("epochs = true", "epochs", "expected a whole number, got True"),
        ("epochs = [3]", "epochs", "expected a whole number"),
        ("epochs = 0", "epochs", "1"),
        ("sigma-min = '0.1'", "sigma-min", "expected a number"),
        ("metric = [1]", "metric", "expected a string, got 1"),
        ("order = 3", "order", "expected a string"),
        ("order = 'backwards'", "order", "is not one of"),
        ("resume = 1", "resume", "expected true or false, got 1"),
        ("resume = 'yes'", "resume", "expected true or false"),
        ("sigma-min = 1\nsigma_min = 2", "sigma_min", "given twice"),
        ("[epochs]\nx = 1", "epochs", "expected a whole number"),
        ("log-dir = 2020-01-01", "log-dir", "expected a string"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_file_and_key(
    probe: Probe, line: str, key: str, advice: str
) -> None:
    code, error = probe(f"{line}\n", "digits")
    assert (code, error.count("\n")) == (2, 1)
    assert f"{probe.file}: {key}: " in error
    assert advice in error


@pytest.mark.parametrize("content", ["epochs", "epochs = ", "a = 1\na = 2", "\x00", "[" * 100_000])
def test_what_is_not_toml_is_a_damaged_input(probe: Probe, content: str) -> None:
    code, error = probe(content, "digits")
    assert (code, error.count("\n")) == (65, 1)
    assert str(probe.file) in error


def test_bytes_that_are_not_text_are_a_damaged_input(
    run_arcsm: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    assert run_arcsm("info", "x", "--config", "c.toml").returncode == 65


def test_a_giant_file_is_refused_unread(run_arcsm: Callable[..., Any], tmp_path: Path) -> None:
    with (tmp_path / "c.toml").open("wb") as file:
        file.truncate(1 << 33)
    done = run_arcsm("info", "x", "--config", "c.toml")
    assert (done.returncode, done.stderr.count("\n")) == (65, 1)


def test_a_missing_file_is_a_missing_input(run_arcsm: Callable[..., Any]) -> None:
    done = run_arcsm("info", "x", "--config", "nowhere.toml")
    assert (done.returncode, done.stderr.count("\n")) == (66, 1)
    assert "nowhere.toml" in done.stderr


def test_a_folder_is_a_damaged_input(run_arcsm: Callable[..., Any], tmp_path: Path) -> None:
    assert run_arcsm("info", "x", "--config", tmp_path).returncode == 65


def test_help_does_not_need_the_file(run_arcsm: Callable[..., Any]) -> None:
    assert run_arcsm("info", "--config", "nowhere.toml", "--help").returncode == 0


def test_the_provenance_names_the_file_among_the_inputs(
    run_arcsm: Callable[..., Any], samples: Path, tmp_path: Path
) -> None:
    (tmp_path / "c.toml").write_text("force = true")
    run_arcsm("merge", samples, "--config", "c.toml", "-o", "all.h5")
    done = run_arcsm("info", "all.h5", "--json")
    assert '"c.toml": "' in done.stdout
