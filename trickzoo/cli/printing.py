"""Output of the commands to the terminal: names are escaped, and the output may have any encoding.

A name from a data set, a file or the user is never interpreted as markup. Control characters are shown as escapes (see
`errors.printable`). Of several processes that `torchrun` starts, only the first prints, except errors.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json as jsonlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trickzoo.environment import is_first_process
from trickzoo.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

PLAIN = {"█": "#", "–": "-", "—": "-", "…": "...", "×": "x", "·": "*", "→": "->", "•": "*", "“": '"', "”": '"', "‘": "'", "’": "'"}
"""Replacements for characters that the output's encoding lacks. All other characters become escapes."""
ERRORS = "trickzoo.plain"
"""Name of the codec error handler that applies PLAIN."""
ENVIRONMENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.EMFILE, errno.ENFILE}
"""Errors of the operating system whose cause is the machine and not this program."""
WIDE = 100_000
"""Columns of an output that is not a terminal, so that tables are never cut there."""
NARROWEST = 20
"""Smallest number of columns for wrapped text, and of a terminal as this program lays out its output."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or printable(c).encode("ascii", "backslashreplace").decode() for c in characters), error.end


codecs.register_error(ERRORS, _plain)


class _Formatter(logging.Formatter):
    """Writes a message of the log on one line, its names escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # the name is given by logging
        record.message = printable(record.message)
        return super().formatMessage(record)


_hushed = False
"""Whether the lines, tables and progress bars of a command are not printed."""


def hush(quiet: bool) -> None:
    """Print no further lines, tables and progress bars if `quiet` is set, until `prepare` is called again. JSON is printed in any case."""
    global _hushed
    _hushed = quiet


def prepare() -> None:
    """Make standard output and standard error accept every character in any encoding, and send the log to standard error."""
    hush(False)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)
    handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("trickzoo: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def flush() -> None:
    """Flush the output. Raises BrokenPipeError if its reader has closed it, OSError if the disk that it goes to is full."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def silence() -> None:
    """Discard output that can no longer be written, so that the interpreter does not report an error when it exits."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def of_the_machine(error: OSError) -> str | None:
    """Return the cause and the remedy if a system call failed because of this machine, or None if this program is at fault."""
    if error.errno in ENVIRONMENT:
        return f"{error.filename or 'the output'}: {error.strerror}; make room, or name another place"
    try:
        tempfile.gettempdir()
    except OSError:  # some libraries look for this folder when they are imported
        return "there is no folder for temporary files that can be written; make room in /tmp, or set TMPDIR to a folder of your own"
    return None


def complain(message: str) -> None:
    """Print an error to standard error on one line. Errors of writing it are ignored."""
    with contextlib.suppress(OSError):
        print(f"trickzoo: {printable(message)}", file=sys.stderr, flush=True)


def say(*parts: str | tuple[str, str], flush: bool = False) -> None:
    """Print one line of text parts; a part with a style, such as ("resnet50", "bold"), has it where standard output is a terminal."""
    if _hushed or not is_first_process():
        return
    shown = [(printable(part), "") if isinstance(part, str) else (printable(part[0]), part[1]) for part in parts]
    if sys.stdout is not None and sys.stdout.isatty() and any(style for _, style in shown):
        from rich.text import Text

        console().print(Text.assemble(*shown), soft_wrap=True)
    else:
        print("".join(text for text, _ in shown), flush=flush)


def say_text(text: str) -> None:
    """Print a text of this program, such as a script, as it is."""
    if is_first_process():
        print(text)


def say_json(content: Any) -> None:
    """Print JSON in ASCII, with the escapes of the JSON standard."""
    if is_first_process():
        print(jsonlib.dumps(content, indent=1))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: Sequence[str] = (), wrapped: Sequence[str] = ()) -> None:
    """Print a table, its figures to the right.

    No cell is cut: on a terminal the columns named in `wrapped` take the width that is left, elsewhere they are not wrapped either.
    """
    if _hushed or not is_first_process():
        return
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, header_style="bold", pad_edge=False)
    cells = [[_encodable(cell) for cell in row] for row in rows]
    widths = []
    for number, title in enumerate(columns):
        wraps = title in wrapped
        made.add_column(Text(title), justify="left" if title in left or wraps else "right", no_wrap=not wraps, overflow="fold")
        widest = max(map(cell_len, [title, *(row[number] for row in cells)]))
        widths.append(min(widest, NARROWEST) if wraps else widest)
    for row in cells:
        made.add_row(*map(Text, row))
    where = console()
    where.width = max(where.width, sum(widths) + 2 * len(widths)) if where.is_terminal else WIDE
    where.print(made)


def fit(text: str, width: int) -> str:
    """Return the text in exactly `width` columns of the terminal: cut, or padded with spaces."""
    from rich.cells import set_cell_size

    return set_cell_size(_encodable(text), width)


@contextlib.contextmanager
def progress(shown: bool, title: str, total: int | None, *, elapsed: bool = False, keep: bool = False) -> Iterator[Callable[..., None]]:
    """Show a progress bar on standard error if that is a terminal and `shown` is set.

    Yields a function that updates the bar and takes `advance`, `completed`, `total` and `description`. With `elapsed` it also shows the
    time so far, and with `keep` it remains on the screen after the block.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    where = console(stderr=True)
    if _hushed or not (shown and where.is_terminal):
        yield lambda **changes: None
        return
    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TimeRemainingColumn()] if elapsed else [TimeRemainingColumn()]
    to_file = sys.stdout is None or not sys.stdout.isatty()  # lines that are printed meanwhile go to that file, and not above the bar
    with Progress(*columns, console=where, transient=not keep, redirect_stdout=not to_file) as bar:
        task = bar.add_task(printable(title), total=total)

        def move(**changes: Any) -> None:
            if "description" in changes:
                changes["description"] = printable(changes["description"])
            bar.update(task, **changes)

        yield move


def console(**settings: Any) -> Console:
    """Return a rich console on standard output, or with `stderr=True` on standard error, that interprets no markup."""
    from rich.console import Console

    class Plain(Console):
        """Reads no markup in what it prints, and leaves a pipe that nobody reads to `cli.run`, where rich would end with status 1."""

        def on_broken_pipe(self) -> None:
            raise  # rich calls this method while it handles the BrokenPipeError

    found = Plain(highlight=False, markup=False, emoji=False, **settings)
    if found.width < NARROWEST:  # with COLUMNS=0, for example, rich would lay out a help text forever
        found.width = NARROWEST
    return found


def _encodable(text: str) -> str:
    """Return the text as the output's encoding will show it, so that its width is known in advance."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return printable(text).encode(encoding, ERRORS).decode(encoding)
