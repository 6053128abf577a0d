"""Errors a user can mend: each message names the thing, what is wrong and what to do. The command line prints it and exits with 2."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches

JOINERS = "\u200c\u200d"
"""The invisible characters that words of some languages, and emoji, are spelt with."""


def printable(text: object) -> str:
    """The text on one line, with every character that would act on a terminal instead of being shown written as its escape.

    These are control characters (line breaks and the escape character among them), marks that turn the direction of writing, other
    invisible marks, and the bytes of a file name that is not UTF-8: "a\\x1b[31m", "b\\n", "c\\u202e", "caf\\xe9.jpg".
    """
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_shown, shown))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in JOINERS:
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) == "Cs":
        return f"\\u{ord(character):04x}"
    return character.encode("unicode-escape").decode()


class TrickzooError(Exception):
    """Base of every error that trickzoo raises about its input.

    `str(error)` is one line that is written for the user and safe to print, whatever names are in it. `status` is the exit status.
    """

    status = 2

    def __str__(self) -> str:
        return printable(super().__str__())


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence that suggests the nearest known names; empty if none is near."""
    near = get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {', '.join(near)}?" if near else ""


class UnknownName(TrickzooError, LookupError):
    """A model, weight, tag or class that does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        listed = f"; there are {', '.join(known[:8])}{', …' if len(known) > 8 else ''}" if known else ""
        super().__init__(f'no {kind} "{name}"{nearest(name, known) or listed}')


class NoWeights(TrickzooError, LookupError):
    """A model that no weight, or no default weight, is published for."""


class BadOption(TrickzooError, ValueError):
    """An argument with a value that the thing asked for does not support."""


class BadManifest(TrickzooError, ValueError):
    """A manifest file that cannot be read, or a record that contradicts itself."""


class WeightsUnavailable(TrickzooError, OSError):
    """No source of a weight gave the file."""


class DigestMismatch(TrickzooError, OSError):
    """A file whose SHA-256 is not the recorded one."""


class BadCheckpoint(TrickzooError, ValueError):
    """A file that is not a checkpoint, or is one of another architecture."""


class BadData(TrickzooError, ValueError):
    """A data set or image that cannot be used as it is."""


class NotWritten(TrickzooError, OSError):
    """A file that the disk refuses: it is full or read-only, or the folder is not the user's. `strerror` is the system's reason alone."""

    def __init__(self, path: object, error: OSError, remedy: str = "make room, or name another place") -> None:
        reason = error.strerror or str(error)
        super().__init__(f"{path} cannot be written ({reason}); {remedy}")
        self.strerror = reason


class NoEffect(TrickzooError, ValueError):
    """A training trick, or an option, that was asked for and finds nothing to act on."""

    def __init__(self, trick: str, reason: str) -> None:
        super().__init__(f"{trick} has no effect: {reason}; leave it out")


class WorkerLost(TrickzooError, RuntimeError):
    """A worker process that ended before its work did."""


class Elsewhere(TrickzooError):
    """Another process of the same run has failed and has told why; this one stops too, and is silent on the command line."""

    def __init__(self, process: int, message: str, status: int) -> None:
        super().__init__(f"process {process} stopped: {message}")
        self.status = status


class InUse(TrickzooError, OSError):
    """A folder that another run writes to."""
