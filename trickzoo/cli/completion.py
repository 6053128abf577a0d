"""The command `trickzoo completion`."""

from __future__ import annotations

from typing import Literal

from trickzoo.cli.printing import say_text


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a script that completes commands and options in a shell.

    In bash, `source <(trickzoo completion bash)` activates it. In zsh the script belongs in a file `_trickzoo` in a folder of the
    `fpath`, and in fish in `~/.config/fish/completions/trickzoo.fish`.
    """
    from trickzoo import cli

    say_text(cli.zoo.generate_completion(shell=shell))
