"""``make bench``: prints ``bench NAME RATIO``, how many times faster than the reference.

Reference and candidate run in turn, in processes of their own, and the ratio is that of their
medians. A distance or a memory figure that belongs to a ratio follows as a comment line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

# Name, reference, candidate.
RATIOS = [
    ("train-step-eager", "train_step_plain", "train_step_eager"),
    # How much a control variate costs: below 1 is more.
    ("csm-over-csm-cv", "train_step_eager", "train_step_variate"),
    ("train-step-eager-derivative-alone", "train_step_autograd_derivative", "train_step_eager"),
    ("train-step-compiled", "train_step_plain", "train_step_compiled"),
    ("made-incremental-contexts", "contexts_full", "contexts_incremental"),
    ("langevin-sampling", "langevin_full", "langevin_incremental"),
    ("ode-vs-langevin", "langevin_incremental", "ode_incremental"),
    ("quantile-vs-ode", "ode_incremental", "quantile_incremental"),
    ("pixelcnn-incremental-contexts", "pixelcnn_contexts_full", "pixelcnn_contexts_incremental"),
    (
        "pixelcnn-incremental-contexts-colour",
        "pixelcnn_contexts_full_colour",
        "pixelcnn_contexts_incremental_colour",
    ),
    (
        "transformer-incremental-contexts",
        "transformer_contexts_full",
        "transformer_contexts_incremental",
    ),
    ("pixelcnn-train-step", "pixelcnn_step_plain", "pixelcnn_step_mle"),
    ("pixelcnn-train-step-same-allocator", "pixelcnn_step_plain_reusing", "pixelcnn_step_mle"),
    ("pixelcnn-train-step-bf16", "pixelcnn_step_plain", "pixelcnn_step_mle_bf16"),
    ("pixelcnn-train-step-colour", "pixelcnn_step_plain_colour", "pixelcnn_step_mle_colour"),
    # How much more than a maximum-likelihood step ours cost: below 1 is less.
    ("pixelcnn-csm-over-mle", "pixelcnn_step_csm", "pixelcnn_step_mle"),
    ("pixelcnn-csm-over-mle-colour", "pixelcnn_step_csm_colour", "pixelcnn_step_mle_colour"),
]


def main() -> None:
    """Run all comparisons, or one case of them for the parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3, help="times each pair is run in turn")
    parser.add_argument("--threads", type=int, default=0, help="threads; 0 takes PyTorch's choice")
    parser.add_argument("names", nargs="*", help="which ratios; all by default")
    options = parser.parse_args()
    if options.case:
        _run_case(options.case, options.threads)
        return
    from two_ranks import CASES as RANKS
    from two_ranks import report as report_ranks
    from vae_cases import VAE_RATIOS

    known = {name for name, _, _ in RATIOS + VAE_RATIOS} | set(RANKS)
    if unknown := set(options.names) - known:
        parser.error(f"no ratio is called {', '.join(sorted(unknown))}: {', '.join(sorted(known))}")
    for name, reference, candidate in RATIOS + VAE_RATIOS:
        if options.names and name not in options.names:
            continue
        results: dict[str, list[dict[str, float]]] = {reference: [], candidate: []}
        for _ in range(options.rounds):
            for case, runs in results.items():
                runs.append(_in_process(case, options.threads))
        a, b = (statistics.median(r["seconds"] for r in runs) for runs in results.values())
        print(f"bench {name} {a / b:.2f}", flush=True)
        memory = [statistics.median(r["megabytes"] for r in runs) for runs in results.values()]
        print(
            f"#   {reference} {a:.4g} s, peak {memory[0]:.0f} MB; "
            f"{candidate} {b:.4g} s, peak {memory[1]:.0f} MB",
            flush=True,
        )
    if not options.names or "pixelcnn-incremental-contexts" in options.names:
        from pixelcnn_cases import report_growth

        report_growth()
    if not options.names or {"ode-vs-langevin", "quantile-vs-ode"} & set(options.names):
        from sampler_distance import report

        report()
    for name in RANKS:
        if not options.names or name in options.names:
            report_ranks(name, options.rounds)


def _in_process(case: str, threads: int) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__)), "--case", case, "--threads", str(threads)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return found


def _run_case(name: str, threads: int) -> None:
    import torch
    from cases import CASES, peak_megabytes
    from pixelcnn_cases import PIXELCNN_CASES
    from transformer_cases import TRANSFORMER_CASES
    from vae_cases import VAE_CASES

    if threads:
        torch.set_num_threads(threads)
    seconds = (CASES | PIXELCNN_CASES | TRANSFORMER_CASES | VAE_CASES)[name]()
    print(json.dumps({"seconds": seconds, "megabytes": peak_megabytes()}))


if __name__ == "__main__":
    main()
