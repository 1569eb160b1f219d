"""The named data sets, for help texts and error messages; importing it loads nothing heavy."""

import difflib

TRAIN_TEST = ("train", "test")
SPLITS = ("train", "valid", "test")

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What folders of splits are called, in lower case, and which splits they are."""

EMBEDDED = {"digits": "scikit-learn's 1,797 digits, 8 x 8, fixed 80/20 split"}
TWO_DIMENSIONAL = {
    "rings": "four concentric circles",
    "moons": "two interleaved half circles",
    "spirals": "a spiral with two arms",
    "checkerboard": "alternating squares of a 4 x 4 board",
    "pinwheel": "five bent arms",
    "8gaussians": "eight Gaussians on a circle",
    "swissroll": "a rolled-up line",
}
GAUSSIAN = {"gaussian": "D correlated Gaussian variables, as gaussian:D"}
TORCHVISION = {
    "mnist": "handwritten digits, 1 x 28 x 28",
    "fashion-mnist": "articles of clothing, 1 x 28 x 28",
    "cifar10": "photographs of ten classes, 3 x 32 x 32",
    "svhn": "house numbers, 3 x 32 x 32",
    "celeba": "aligned faces, 3 x 218 x 178 before cropping",
}
REFERENCES = {
    "uniform": "every pixel uniform, in the shape of the model",
    "constant-uniform": "one uniform value per image, in the shape of the model",
}
DATASETS = EMBEDDED | TWO_DIMENSIONAL | GAUSSIAN | TORCHVISION | REFERENCES
"""Every named data set and one line on what it holds."""


def splits_of(name: str) -> tuple[str, ...]:
    """Return the splits of a named data set; empty for the references, which have none."""
    if name in REFERENCES:
        return ()
    if name in TWO_DIMENSIONAL or name in GAUSSIAN or name == "celeba":
        return SPLITS
    return TRAIN_TEST


def suggestion(name: str) -> str:
    """Return ``"; did you mean 'NAME'?"`` for the closest data set, or a list of them all.

    Example:
        >>> suggestion("mnits")
        "; did you mean 'mnist'?"
    """
    close = difflib.get_close_matches(name.lower(), DATASETS, n=1)
    if close:
        return f"; did you mean '{close[0]}'?"
    return "; the data sets are " + ", ".join(DATASETS)
