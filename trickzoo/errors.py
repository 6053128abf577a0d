"""Errors that a user can correct. Each message names the cause and the remedy. A command prints it and exits with status 2."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

JOINERS = "\u200c\u200d"
"""Invisible characters that are part of the spelling of some languages and of emoji."""
NOT_FINITE = "gives logits that are not finite; the weights are damaged"
"""The message, after the name of a network, that its logits are NaN or infinite."""


def printable(text: object) -> str:
    """Return the text on one line, with every character that would control a terminal, or be invisible, replaced by its escape sequence.

    These are control characters (including line breaks and the escape character), marks that change the direction of writing, other
    invisible marks, and the bytes of a file name that is not UTF-8: "a\\x1b[31m", "b\\n", "c\\u202e", "caf\\xe9.jpg".
    """
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_shown, shown))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or character in JOINERS:
        return character
    if "\udc80" <= character <= "\udcff":  # a surrogate escape: a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) == "Cs":
        return f"\\u{ord(character):04x}"
    return character.encode("unicode-escape").decode()


class TrickzooError(Exception):
    """Base class of every error that trickzoo raises about its input.

    `str(error)` is one line for the user, which is safe to print whatever names are in it. `status` is the exit status of a command.
    """

    status = 2

    def __str__(self) -> str:
        return printable(super().__str__())


def from_process(message: str, status: int) -> TrickzooError:
    """Return the error that another process raised, from its message and its exit status."""
    error = TrickzooError(message)
    error.status = status
    return error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message without a full stop, or the name of its class if it has no message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(". ")


def shortened(names: Sequence[str], most: int = 8) -> str:
    """Return the first names of a list, separated by commas; a mark at the end says that there are more."""
    return f"{', '.join(names[:most])}{', …' if len(names) > most else ''}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence that suggests up to three similar known names, such as "; did you mean a, b?"; "" if none is similar.

    Capitals do not count.
    """
    spelt: dict[str, list[str]] = {}
    for each in known:
        spelt.setdefault(each.casefold(), []).append(each)
    near = [each for folded in get_close_matches(name.casefold(), spelt, n=3, cutoff=0.5) for each in spelt[folded]]
    return f"; did you mean {', '.join(near[:3])}?" if near else ""


class UnknownName(TrickzooError, LookupError):
    """A name of a model, a weight, a class or the like does not exist. The message suggests similar names, or lists the first ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = list(known)
        listed = f"; there are {shortened(known)}" if known else ""
        super().__init__(f'no {kind} "{name}"{nearest(name, known) or listed}')


class NoWeights(TrickzooError, LookupError):
    """A model has no published weights, or no default weight."""


class BadOption(TrickzooError, ValueError):
    """An argument or option has a value that is not supported."""


def check_choice(what: str, value: object, choices: Collection[str]) -> None:
    """Raise BadOption, which names the choices, unless the value is one of them. `what` begins the message: "mixup: form"."""
    if value not in choices:
        *others, last = (f'"{choice}"' for choice in choices)
        raise BadOption(f'{what} must be {", ".join(others)} or {last}, not "{value}"')


class BadManifest(TrickzooError, ValueError):
    """A manifest file or a lock file cannot be read, or a record in it is not valid."""


class WeightsUnavailable(TrickzooError, OSError):
    """The file of a weight could not be obtained from any source, or could not be written."""


class DigestMismatch(TrickzooError, OSError):
    """A file does not have the recorded SHA-256."""


class BadCheckpoint(TrickzooError, ValueError):
    """A file is not a checkpoint, is damaged, or belongs to another architecture."""


class NotFinite(BadCheckpoint):
    """A network gives outputs that are NaN or infinite."""


class BadData(TrickzooError, ValueError):
    """A data set or an image cannot be used as it is."""


class Diverged(TrickzooError, ArithmeticError):
    """The loss of a training run, or its network, is not finite."""


class NotWritten(TrickzooError, OSError):
    """A file cannot be written: the disk is full or read-only, or the user may not write to the folder.

    `strerror` is the reason without the path and the remedy.
    """

    def __init__(self, path: object, reason: str, remedy: str = "make room, or name another place") -> None:
        super().__init__(f"{path} cannot be written ({reason}); {remedy}")
        self.strerror = reason


class NoEffect(TrickzooError, ValueError):
    """A requested training trick or option would have no effect, for example because the network has no layer that it acts on."""

    def __init__(self, trick: str, reason: str) -> None:
        super().__init__(f"{trick} has no effect: {reason}; leave it out")


class WorkerLost(TrickzooError, RuntimeError):
    """A worker process ended before it had finished its work."""


class StoppedByOtherProcess(TrickzooError):
    """Another process of the same run failed and reports the reason. This process stops too, and prints nothing on the command line."""

    def __init__(self, process: int, message: str, status: int) -> None:
        super().__init__(f"process {process} stopped: {message}")
        self.status = status


class InUse(TrickzooError, OSError):
    """Another run is writing to the folder."""
