"""``arcsm report``: a run on one page."""

from contextlib import ExitStack
from typing import Annotated

import typer

from arcsm_cli.cli.options import Force, Output


def run(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Checkpoints, samples, scores, results of compare, and what --json printed; one "
            "may be - (stdin).",
        ),
    ],
    output: Output,
    force: Force = False,
) -> None:
    """Show a run on one page.

    Writes one HTML file that holds all it shows: what each FILE is, training curves, samples,
    likelihoods, restored examples, comparisons, and the commands behind them as a graph, in which
    files are joined by the SHA-256 of their contents. It needs no network and no scripts, can be
    read on a telephone and printed, and can be sent as it is. Equal files give equal pages.

    Figures that several files have are set side by side. Of files that ood-score wrote, the first
    is told from all others: AUROC and ROC curves.

    Examples:

      arcsm report digits.safetensors samples.h5 -o report.html
      arcsm eval digits.safetensors digits --json > nll.json
      arcsm report digits.safetensors nll.json scores.h5 other.h5 restored.h5 -o report.html
      arcsm report cost.h5 -o - | gzip > report.html.gz
    """
    from arcsm_cli.io.atomic import atomic_output, check_output
    from arcsm_cli.io.streams import local_input
    from arcsm_cli.reporting.page import report_page

    check_output(output, force=force)
    with ExitStack() as stack:
        page = report_page([stack.enter_context(local_input(file)) for file in files])
        with atomic_output(output, force=force) as target:
            target.write_text(page, encoding="utf-8")
