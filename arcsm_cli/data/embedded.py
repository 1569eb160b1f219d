"""Data that comes with an installed package."""

import numpy as np
import torch

from arcsm_cli.data.dataset import Dataset, fixed_order
from arcsm_cli.data.options import DataOptions


def read_digits(name: str, split: str, options: DataOptions) -> Dataset:
    """Return a split of scikit-learn's digits: float32, N x 1 x 8 x 8 in [0, 1], with labels.

    The 1,797 images are shuffled in a fixed order; the last fifth of them is the test split.
    The 17 grey levels are scaled to [0, 1].
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    values = torch.from_numpy(digits.images.astype(np.float32) / 16).unsqueeze(1)
    order = fixed_order(len(values))
    test = len(values) // 5
    index = order[-test:] if split == "test" else order[:-test]
    labels = torch.from_numpy(digits.target.astype(np.int64))
    return Dataset(f"digits:{split}", values[index].contiguous(), labels[index])
