"""The errors that ddfpipe raises on purpose.

Every message says what is wrong, with which file or option, and what to do about it.  The class
decides the exit code of the scripts; docs/manual.md lists the codes.
"""


class DdfpipeError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 5


class ConfigError(DdfpipeError):
    """A configuration file, an option or the command line is wrong."""

    exit_code = 1


class DataError(DdfpipeError):
    """A measurement set, a list of them or a catalogue cannot be used."""

    exit_code = 1


class ResourceError(DdfpipeError):
    """The machine lacks disk, memory or permission for what was asked."""

    exit_code = 1


class LockError(DdfpipeError):
    """Another run is at work in the same directory."""

    exit_code = 1


class StopRequested(DdfpipeError):
    """A signal or `exitafter` asked for an orderly stop; nothing is lost."""

    exit_code = 2


class NoFullList(DdfpipeError):
    """The run ended as asked after self-calibration of the small list: no full list was given."""

    exit_code = 3


class InputModelError(DdfpipeError):
    """The [inputmodel] options are incomplete."""

    exit_code = 4


class StageFailed(DdfpipeError):
    """A stage could not be finished."""


class SolveError(StageFailed):
    """Gain solutions could not be found, read or written."""


class ImagingError(StageFailed):
    """An image could not be made, read or written."""


class SkyModelError(StageFailed):
    """A sky model, mask, or list of directions could not be made or used."""
