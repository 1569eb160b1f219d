"""CelebA, in the folder that torchvision uses."""

import io
from pathlib import Path

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.decoding import Picture
from arcsm_cli.data.download import ensure
from arcsm_cli.data.images import load_images
from arcsm_cli.data.options import DataOptions
from arcsm_cli.errors import DamagedInputError, UnavailableError
from arcsm_cli.io.streams import label, open_regular, show

IMAGES = "img_align_celeba"
PARTITION = "list_eval_partition.txt"
ARCHIVE = "img_align_celeba.zip"

_NUMBERS = {"train": "0", "valid": "1", "test": "2"}
_MAX_LINES, _MAX_LINE = 1_000_000, 1000


def read_celeba(name: str, split: str, options: DataOptions) -> Dataset:
    """Return a split of the aligned faces (8 bits), cropped and resized while they are decoded.

    Only those that ``options`` takes are decoded.

    Raises:
        UnavailableError: It is not below the data folder and could not, or may not, be fetched.
        DamagedInputError: The partition or an image is damaged.
        MissingInputError: An image of the partition does not exist.
    """
    folder = options.root / "celeba"
    ensure("celeba", folder, [IMAGES, PARTITION], options, _fetch)
    names = _partition(folder / PARTITION, _NUMBERS[split])
    paths = [folder / IMAGES / names[row] for row in options.chosen(len(names)).tolist()]
    name = f"celeba:{split}"
    loaded = load_images([Picture.at(path) for path in paths], options, name)
    return Dataset(name, loaded.values, skipped=loaded.skipped)


def _partition(path: Path, number: str) -> list[str]:
    names = []
    try:
        with io.TextIOWrapper(open_regular(path), encoding="ascii") as file:
            lines = iter(lambda: file.readline(_MAX_LINE), "")
            for line_number, line in enumerate(lines, 1):
                cells = line.split()
                if not cells:
                    continue
                # a name with a slash could lead out of the folder
                if len(cells) != 2 or cells[1] not in _NUMBERS.values() or "/" in cells[0]:
                    raise DamagedInputError(
                        f"{label(path)}: line {line_number} is not 'IMAGE 0|1|2': "
                        f"{show(line.strip())}"
                    )
                if line_number > _MAX_LINES:
                    raise DamagedInputError(f"{label(path)}: more than {_MAX_LINES} lines")
                if cells[1] == number:
                    names.append(cells[0])
    except UnicodeDecodeError as error:
        raise DamagedInputError(f"{label(path)}: is not a text file") from error
    except OSError as error:
        raise UnavailableError(f"{label(path)}: {error.strerror or error}") from error
    if not names:
        raise DamagedInputError(f"{label(path)}: lists no image of this split")
    return names


def _fetch(staging: Path) -> None:
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive, extract_archive

    for identifier, md5, name in CelebA.file_list:
        if name in (ARCHIVE, PARTITION):
            download_file_from_google_drive(identifier, str(staging), name, md5)
    extract_archive(str(staging / ARCHIVE), remove_finished=True)
