"""The output of commands: names are printed and never interpreted, in any encoding, to terminals, pipes and full disks."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from collections.abc import Sequence

import pytest

from trickzoo.cli import printing

NASTY = [
    "[red]stop[/red]",
    "[/]",
    "[link=x]y",
    ":smile:",
    "\x1b]0;title\x07",
    "a\nb",
    "\u202egpj",
    "caf\udce9",
    "-x",
    "=1+1",
    "日本",
    "ك",
    "\\[b]",
]


class Output(io.TextIOWrapper):
    """Standard output in an encoding."""

    def __init__(self, encoding: str) -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding=encoding, write_through=True)

    def lines(self) -> list[str]:
        return self.written.getvalue().decode(self.encoding).splitlines()


def output_in(encoding: str, monkeypatch: pytest.MonkeyPatch) -> Output:
    output = Output(encoding)
    monkeypatch.setattr(sys, "stdout", output)
    printing.prepare()
    return output


def test_of_several_processes_the_first_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    output = output_in("utf-8", monkeypatch)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        printing.say("a")
        printing.say_text("b")
        printing.say_json("c")
        printing.table(("d",), [])
    assert output.lines() == ["a", "b", '"c"', "d"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "latin-1", "cp437", "shift-jis"])
@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_printed_on_one_line_as_it_is(monkeypatch: pytest.MonkeyPatch, encoding: str, name: str) -> None:
    output = output_in(encoding, monkeypatch)
    printing.say("class ", (name, "red"), " – 5 × 7 █ …")
    printing.table(("class [b]", "n"), [(name, "–")], left=("class [b]",))
    first, header, row = output.lines()
    shown = {"\x1b]0;title\x07": "\\x1b]0;title\\x07", "a\nb": "a\\nb", "\u202egpj": "\\u202egpj", "caf\udce9": "caf\\xe9"}.get(name, name)
    try:
        shown.encode(output.encoding)
    except UnicodeEncodeError:
        shown = shown.encode("ascii", "backslashreplace").decode()
    assert first.startswith(f"class {shown} ")
    assert header.split() == ["class", "[b]", "n"]
    assert row.split()[0] == shown


def test_characters_that_an_encoding_has_not_have_a_likeness(monkeypatch: pytest.MonkeyPatch) -> None:
    output = output_in("ascii", monkeypatch)
    printing.say("1.2 – 1.4 … 3 × 5 ██ ñ \N{GRINNING FACE}")
    assert output.lines() == ["1.2 - 1.4 ... 3 x 5 ## \\xf1 \\U0001f600"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_columns_stay_in_line_whatever_the_names(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    output = output_in(encoding, monkeypatch)
    printing.table(("class", "n"), [(name, "1 … 2") for name in ("a", "…", "ñ" * 40, "x" * 300)], left=("class",))
    assert len({len(line) for line in output.lines()}) == 1
    assert "x" * 300 in output.lines()[-1]


@pytest.mark.parametrize(("text", "shown"), [("cat", "cat   "), ("elephant", "elepha"), ("日本日本", "日本日"), ("a\tb", "a\\tb  ")])
def test_names_fit_their_column(text: str, shown: str) -> None:
    assert printing.fit(text, 6) == shown


def test_a_table_is_whole_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    output = Output("utf-8")
    monkeypatch.setattr(output, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", output)
    printing.table(
        ("weight", "top-1", "made"), [("resnet50_d.gluon_in1k", "79.080", "in a few words " * 9)], left=("weight",), wrapped=("made",)
    )
    text = "\n".join(output.lines())
    assert "resnet50_d.gluon_in1k" in text and "79.080" in text
    assert text.count("words") == 9


def _run(words: Sequence[str], **options: object) -> subprocess.CompletedProcess[str]:
    code = "from trickzoo.cli import trickzoo; trickzoo()"
    return subprocess.run([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, check=False, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("words", [["list"], ["--help"], ["weights", "list"], ["describe", "resnet50_d"], ["list", "--json"]], ids=" ".join)
def test_nobody_reads(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    found = _run(words, stdout=writing)
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has a device that is always full")
def test_a_full_disk_behind_the_output() -> None:
    with open("/dev/full", "w") as full:
        found = _run(["list"], stdout=full)
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "No space left" in found.stderr


def test_closed_output_streams_keep_the_exit_status() -> None:
    code = "import os, sys; os.close(1); os.close(2); os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], *sys.argv[2:]])"
    entry = "from trickzoo.cli import trickzoo; trickzoo()"
    statuses = [subprocess.run([sys.executable, "-c", code, entry, *words], check=False).returncode for words in (["list"], ["lis"])]
    assert statuses == [0, 2]


def test_lines_go_to_the_file_while_a_bar_is_on_the_terminal() -> None:
    code = """
from trickzoo.cli import printing
with printing.progress(True, "[/] of\\x1b]0;x\\x07", 3) as move:
    printing.say("a line", flush=True)
    move(advance=1, description="[red")
"""
    terminal, theirs = pty.openpty()
    found = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=theirs, text=True, check=True, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert found.stdout == "a line\n"
    assert "[red" in shown
    assert "\x1b]0;" not in shown


def test_the_log_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    code = "import logging; from trickzoo.cli import printing; printing.prepare(); logging.getLogger('x').warning('%s', 'a\\n\\x1b[2J')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stderr == "trickzoo: a\\n\\x1b[2J\n"
