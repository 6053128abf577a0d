"""The names of the common corruptions, which the command line checks before it imports torch."""

from __future__ import annotations

from typing import NamedTuple

from trickzoo.errors import BadOption, UnknownName
from trickzoo.wording import separated

GROUPS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
"""The kinds of each group."""
KINDS = tuple(kind for kinds in GROUPS.values() for kind in kinds)
LEFT_OUT = {"frost": "needs photographs of frost, which are not a part of this package"}
"""The kinds of the paper that are not made here, with the reason."""
SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """A kind of corruption with its severity, 1 to 5."""

    kind: str
    severity: int


def parse(kinds: str, severities: str | None = None) -> tuple[Corruption, ...]:
    """Return the corruptions that two lists separated by commas name, in the paper's order.

    `kinds` has names of kinds and of groups, or "all". Without `severities`, each kind has all five. Raises UnknownName for another name,
    and BadOption for a kind that is not made here or a severity that is not a whole number from 1 to 5.
    """
    groups = {"all": KINDS, **GROUPS, **{kind: (kind,) for kind in KINDS}}
    chosen: set[str] = set()
    for name in separated(kinds):
        if name in LEFT_OUT:
            raise BadOption(f"{name} {LEFT_OUT[name]}; leave it out of --corruptions")
        if name not in groups:
            raise UnknownName("corruption", name, groups)
        chosen.update(groups[name])
    levels = set()
    for word in map(str, SEVERITIES) if severities is None else separated(severities):
        if word not in map(str, SEVERITIES):
            raise BadOption(f'--severities has "{word}"; name whole numbers from 1 to 5, such as 1,3,5')
        levels.add(int(word))
    if not chosen or not levels:
        raise BadOption("--corruptions and --severities name at least one kind and one severity, such as noise and 1,3,5")
    return tuple(Corruption(kind, level) for kind in KINDS if kind in chosen for level in SEVERITIES if level in levels)
