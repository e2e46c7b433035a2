"""User-fixable errors. Each message is one line that states the problem, its location and the fix."""


class BlendError(Exception):
    """Base class of user-fixable errors; the CLI prints the message without a traceback and exits with `status`."""

    status = 2


class ConfigError(BlendError):
    """A setting contradicts another setting or is not supported."""


class RangeError(ConfigError, ValueError):
    """A numeric argument is outside its range.

    Args:
        name: name of the argument, or of the setting with all names above it.
        value: the value.
        allowed: describes the allowed values, as "between 0 and 1".
    """

    def __init__(self, name: str, value: float, allowed: str) -> None:
        super().__init__(f"{name} must be {allowed}, not {value}")
        self.name, self.value, self.allowed = name, value, allowed


class DataError(BlendError):
    """A recording, folder or cache is missing, damaged or unusable."""


class MissingFileError(DataError):
    """A file of a recording is not on this machine and cannot be downloaded."""


class TeacherError(BlendError):
    """A teacher is missing, cannot be read, or does not match its student."""


class TrainingInterrupted(BlendError):
    """A signal stopped training; running the same command again resumes it.

    The exit status is 75, EX_TEMPFAIL of sysexits.h.
    """

    status = 75
