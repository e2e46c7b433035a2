"""Errors that a user can correct. Each message is one line: what is wrong, where, and what to do."""

import re


class BlendError(Exception):
    """Base class. The command line prints its message on one line, without a traceback, and exits with `status`."""

    status = 2


class ConfigError(BlendError):
    """A setting that contradicts another or cannot be carried out."""


class DataError(BlendError):
    """A recording, folder or cache that cannot be used as it is."""


class TeacherError(BlendError):
    """A teacher that is missing, cannot be read, or does not match its student."""


class TrainingInterrupted(BlendError):
    """A signal ended training; the same command resumes it (status 75, EX_TEMPFAIL of sysexits.h)."""

    status = 75


def innermost_parser_error(message: str) -> str:
    """Returns the innermost error of a parser's message on one line, without the settings that it repeats."""
    innermost = re.split(r"\n\s*- ", message)[-1]
    return " ".join(re.split(r"\n\s*Given value", innermost)[0].split())
