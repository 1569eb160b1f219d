"""The likelihoods of several VAEs on the same examples, and their paired differences.

    arcsm eval csm-8.safetensors mnist --limit 200 --metric ais -o csm-8.h5
    python bench/vae_table.py csm-8.h5 elbo-8.h5 ...

Differences are to the first file. The examples must be the same, binarised alike (one seed): of
these the error of a difference is far below that of either figure.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arcsm_cli.io.samples import SampleFile


def main() -> None:
    """Print mean, standard error, difference to the first file and its standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--metric", default="ais")
    options = parser.parse_args()
    first: tuple[NDArray[Any], NDArray[Any]] | None = None
    print(f"{'file':24}    mean     se    difference     se")
    for name in options.files:
        with SampleFile(name) as samples:
            values = samples.read(0, len(samples), f"statistics/{options.metric}")
            examples = samples.read(0, len(samples))
        values = values.astype(np.float64)
        first = first or (values, examples)
        if not np.array_equal(first[1], examples):
            raise SystemExit(f"{name}: other examples than those of {options.files[0]}")
        paired = values - first[0]
        print(f"{name:24} {_mean(values)}   {_mean(paired)}")


def _mean(values: NDArray[np.float64]) -> str:
    return f"{values.mean():8.3f} {values.std(ddof=1) / math.sqrt(len(values)):6.3f}"


if __name__ == "__main__":
    main()
