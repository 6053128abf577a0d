"""The messages for command lines that cannot be read."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from itertools import chain

from cyclopts import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError, ValidationError

from trickzoo.recipes.fields import SYNONYMS

OPTION_SYNONYMS = {
    "ckpt": "weights",
    "conf": "threshold",
    "confidence": "threshold",
    "checkpoint": "weights",
    "data_dir": "data",
    "data_path": "data",
    "dataset": "data",
    "force": "overwrite",
    "image_size": "short",
    "img_size": "short",
    "imgsz": "short",
    "initial_checkpoint": "weights",
    "j": "workers",
    "log_wandb": "tracker",
    "size": "short",
    "gpu": "device",
    "config": "recipe",
    "name": "out",
    "num_workers": "workers",
    "output": "out",
    "output_dir": "out",
    "pretrained": "weights",
    "project": "out",
    "save_dir": "out",
    "silent": "quiet",
    "source": "data",
    "weights": "pretrained",
}
"""Names that other programs give to options that are not fields of recipes."""
RESUME = "the same command resumes a training run that was stopped"


def usage_error(error: CycloptsError) -> str:
    """Return the message for a command line that cannot be read."""
    if isinstance(error, UnknownOptionError):
        return unknown_option(error)
    if isinstance(error, UnusedCliTokensError):
        known = inspect.signature(error.target).parameters if error.target is not None else {}
        patterns = "; put a pattern that names several training runs in quotes" * ("first" in known)
        return f"no option precedes {' '.join(error.unused_tokens or ())}" + patterns + "; images are named with --data" * ("data" in known)
    if isinstance(error, MissingArgumentError) and error.argument is not None and error.keyword is None:
        name = error.argument.name
        return f"{name} is missing" + "; own recognises what annotation tools export" * (name == "LAYOUT")
    if isinstance(error, ValidationError) and error.argument is not None:
        return f"{error.argument.name} {error.exception_message}"
    return " ".join(str(error).split())


def unknown_option(error: UnknownOptionError) -> str:
    """Return the message for an option that the command does not have, with a similar option of the command, if there is one."""
    given = (error.token.keyword or error.token.value).partition("=")[0]
    known = {name: name.lstrip("-").replace("-", "_") for name in chain.from_iterable(each.names for each in error.argument_collection)}
    word = given.lstrip("-").replace("-", "_").lower()
    meant = {SYNONYMS.get(word), OPTION_SYNONYMS.get(word)}
    found = [name for name, bare in known.items() if bare in meant and name.startswith("--")]
    if not found and word == "resume":
        return f"there is no option {given}; {RESUME}"
    if not found:
        near = get_close_matches(word, known.values(), n=2, cutoff=0.75)
        found = [name for name, bare in known.items() if bare in near and name.startswith("--")]
    return f"there is no option {given}" + (f"; did you mean {' or '.join(found)}?" if found else "")
