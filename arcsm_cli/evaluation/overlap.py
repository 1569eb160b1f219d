"""What trained a model is not measured in silence: how much of DATA it has seen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from arcsm_cli.data.dataset import Dataset
from arcsm_cli.data.names import SPLITS
from arcsm_cli.data.sketch import from_json, share_found
from arcsm_cli.data.splits import Hashes, whole_of
from arcsm_cli.data.stream import Examples
from arcsm_cli.io.checkpoint import Checkpoint
from arcsm_cli.io.streams import label
from arcsm_cli.notices import note

logger = logging.getLogger(__name__)

_BATCH = 1024
_THE_SAME = 0.5  # DATA with at least this share of the training examples is what they came from

_FILES = ("--config", "--init")  # options of a training that name inputs besides DATA

Part = Callable[[Dataset], str | None]
"""Given all of a source without splits of its own, says which split to take, None for all."""


@dataclass(frozen=True)
class Trained:
    """What a checkpoint tells of the examples that trained it.

    Attributes:
        sketch: of the examples (see `arcsm_cli.data.sketch`); None in files of earlier versions.
        count: how many they are.
        part: the split that they are, of a source that has those of `arcsm_cli.data.splits`.
        inputs: SHA-256 of what was read, by its name.
        before: the same of the models that its training started from, the latest first.
    """

    sketch: Hashes | None
    count: int
    part: str
    inputs: dict[str, str]
    before: tuple[Trained, ...] = ()

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Trained:
        """Read it from a checkpoint, of whatever version."""
        examples, provenance = checkpoint.training.get("examples"), checkpoint.provenance
        found, earlier = cls._read(examples, provenance), []
        before = examples.get("before") if isinstance(examples, dict) else None
        for told in before if isinstance(before, list) else ():
            provenance = provenance[: _last_training(provenance)]
            earlier.append(cls._read(told, provenance))
        return replace(found, before=tuple(earlier))

    @classmethod
    def _read(cls, examples: Any, provenance: list[dict[str, Any]]) -> Trained:
        examples = examples if isinstance(examples, dict) else {}
        part, count = examples.get("part"), examples.get("used")
        return cls(
            from_json(examples.get("sketch")),
            count if isinstance(count, int) and 0 < count < 1 << 53 else 0,
            part if isinstance(part, str) and part in SPLITS else "",
            training_inputs(provenance),
        )

    @property
    def unseen(self) -> Part | None:
        """What to measure of DATA without splits: the test split of what the model was trained on.

        Of anything else everything; None where the model was not trained by the rule of splits.
        """
        if self.part != "train":
            return None

        def choose(whole: Dataset) -> str | None:
            if self.share(whole) < _THE_SAME:
                return None
            note(
                "takes the test split of %s, since another part of it trained the model; %s is all",
                label(whole.name),
                whole_of(whole.name),
            )
            return "test"

        return choose

    @property
    def seen(self) -> Part | None:
        """What trained the model of DATA without splits, in the same way."""
        if not self.part:
            return None
        return lambda whole: self.part if self.share(whole) >= _THE_SAME else None

    def share(self, examples: Examples) -> float:
        """Return the share of the training examples that are among others, 0 where unknown."""
        if self.sketch is None:
            return 0.0
        return share_found(self.sketch, (batch.x for batch in examples.batches(_BATCH)))

    def overlap(self, examples: Examples) -> dict[str, Any]:
        """Warn where some of the examples trained the model, and return what the JSON says of it.

        Returns:
            nothing, or under ``overlap`` the share of the ``training_examples`` that were found,
            null where only the input is known to be the same.
        """
        name, share = label(examples.name), self.share(examples)
        if share > 0:
            logger.warning(
                "about %d of the %d examples of %s trained the model (%.3g %% of those that did): "
                "figures are not of unseen data",
                min(len(examples), round(share * self.count)),
                len(examples),
                name,
                100 * share,
            )
            return {"overlap": {"training_examples": share}}
        if not self._is_same_input(examples):
            return next((found for t in self.before if (found := t.overlap(examples))), {})
        logger.warning("%s is what the model was trained on: figures are not of unseen data", name)
        return {"overlap": {"training_examples": None}}

    def _is_same_input(self, examples: Examples) -> bool:
        """Whether the examples come from what was trained on, and from no other part of it.

        Of a file with several arrays one that both name differently is another part.
        """
        own = _array(examples.name)
        trained = {_array(name) for name, of in self.inputs.items() if of == examples.digest}
        if not trained or ("" not in trained | {own} and own not in trained):
            return False
        part = examples.name.rpartition(":")[2]
        return not (part in SPLITS and self.part in SPLITS and part != self.part)


def _array(name: str) -> str:
    """Return which array of its file a specification names, empty if none."""
    return name.partition("::")[2].partition(":")[0]


def training_inputs(provenance: list[dict[str, Any]]) -> dict[str, str]:
    """Return the DATA of the last training in a chain, by name, with their SHA-256; or nothing.

    Besides DATA, a training has a ``--config`` file, plugins and the model of ``--init`` as inputs.
    """
    step = provenance[_last_training(provenance)] if provenance else {}
    if step.get("command") not in ("train", "vae-train"):
        return {}
    inputs, arguments = step.get("inputs"), step.get("arguments")
    if not isinstance(inputs, dict) or not isinstance(arguments, list):
        return {}
    others = {after for option, after in pairwise(arguments) if option in _FILES}
    for text in map(str, arguments):
        others |= {text.removeprefix(f"{f}=") for f in _FILES if text.startswith(f"{f}=")}
    return {
        name: str(digest)
        for name, digest in inputs.items()
        if name not in others and not name.startswith("--plugin ")
    }


def _last_training(provenance: list[dict[str, Any]]) -> int:
    """Return where the last training of a chain stands, 0 if it has none."""
    rows = range(len(provenance) - 1, -1, -1)
    return next((i for i in rows if provenance[i].get("command") in ("train", "vae-train")), 0)
