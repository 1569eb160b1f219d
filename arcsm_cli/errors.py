"""Errors that end a command with a documented exit code and one line on stderr."""


class ArcsmError(Exception):
    """Base of every error a user can cause; its message is one line that names the culprit."""

    exit_code = 1


class UsageError(ArcsmError):
    """The options do not fit together, or an option's value is not one it takes."""

    exit_code = 2


class DamagedInputError(ArcsmError):
    """An input exists but is damaged, of the wrong kind, or of the wrong shape."""

    exit_code = 65


class MissingInputError(ArcsmError):
    """An input does not exist."""

    exit_code = 66


class UnavailableError(ArcsmError):
    """Something needed is not there: a device, a data set that was not downloaded."""

    exit_code = 69


class OutputError(ArcsmError):
    """An output cannot be created, or exists already."""

    exit_code = 73


class StoppedEarly(ArcsmError):
    """A signal ended the work with everything saved; run again with ``--resume``."""

    exit_code = 75


class Interrupted(ArcsmError):
    """A signal ended the work and there is nothing to save."""

    exit_code = 130
