"""What a run says without being asked and is no warning: what was split, skipped or chosen."""

import logging

NOTICE = 25
"""The level of these messages: between ``INFO`` and ``WARNING``, shown unless ``-q`` is given."""

_log = logging.getLogger(__name__)


def note(message: str, *values: object) -> None:
    """Say one line on standard error, ``%`` filling in the values."""
    _log.log(NOTICE, message, *values)
