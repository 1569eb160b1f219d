"""The program `arcsm`: its commands, and `main`.

Nothing here imports PyTorch, and no command is imported before it runs, so that help, shell
completion and a mistyped option answer at once.
"""

import os
import sys

from arcsm_cli.cli.signals import SignalGuard, SignalInterrupt
from arcsm_cli.errors import Interrupted
from arcsm_cli.processors import settle_threads

# In the order of a session's work. The texts are the first lines of the commands' help, kept here
# so that listing the commands imports none of them.
COMMANDS = {
    "train": "Train a model on DATA",
    "vae-train": "Train a variational autoencoder on DATA",
    "distill": "Teach a score model to draw each scalar in one evaluation",
    "sample": "Draw samples from a model",
    "denoise": "Restore corrupted examples",
    "eval": "Measure a model on DATA, or samples",
    "ood-score": "Score how unlike the training data examples are",
    "compare": "Run one of the paper's experiments between objectives",
    "models": "List the models that come with arcsm",
    "info": "Say what a file is and where it comes from",
    "plot": "Draw a figure of a file",
    "report": "Show a run on one page",
    "data": "Write any DATA as an HDF5 file, or for other programs",
    "merge": "Put shards back together, in order",
    "export": "Write a model to give away",
}

DESCRIPTION = """Autoregressive conditional score models: train, sample, exact likelihoods.

Results go to standard output, all else to standard error; '-' is standard input or output, so
commands join by pipes. 'arcsm COMMAND --help' explains a command."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the program; returns its exit code.

    Arguments:
        arguments: The command line after the program's name; by default that of the process,
            whose signals are then taken over for good.
    """
    if arguments is None and (request := os.environ.get("_ARCSM_COMPLETE")):  # a shell asks
        from arcsm_cli.cli.completion import answer

        return answer(request, sys.argv[1:], os.environ)
    signals = SignalGuard()
    signals.install()  # before the slower imports: a signal ends those too
    try:
        if arguments is None:
            _settle_environment()
        from arcsm_cli.cli.invocation import run_program

        return run_program(_run, sys.argv[1:] if arguments is None else arguments, signals)
    except SignalInterrupt as interrupt:
        print(f"arcsm: interrupted by {interrupt}", file=sys.stderr)
        return Interrupted.exit_code
    finally:
        if arguments is not None:
            signals.restore()


def call(arguments: list[str]) -> None:
    """Runs a command for Python code, in this process and without taking signals over.

    Raises:
        ArcsmError: what the program would print and exit with.
    """
    from arcsm_cli.cli.invocation import call_program

    call_program(_run, arguments)


def _settle_environment() -> None:
    """Say to libraries, before any of them is loaded, what they would find out wrongly."""
    settle_threads()
    os.environ["MPLBACKEND"] = "Agg"  # figures are files, whatever the user's notebook draws on
    if os.path.expanduser("~") == "~":
        # No HOME, no entry among the users: matplotlib and others would fail. This is the home of
        # users without one, and nothing is ever there.
        os.environ["HOME"] = "/nonexistent"


def _run(arguments: list[str]) -> int:
    import typer

    from arcsm_cli.cli.program import build_program

    program = build_program(COMMANDS, DESCRIPTION)
    try:
        with program.make_context("arcsm", list(arguments)) as context:
            program.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0
