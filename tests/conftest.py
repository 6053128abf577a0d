"""Registers the fixtures, and leaves out the tests that are slow or need real images that are not here."""

from __future__ import annotations

import gc
import os

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # else the hub client asks huggingface.co for a list of agents; read when it is imported
PACKS = os.environ.get("TRICKZOO_PACKS")
LEFT_OUT = {"packs": "they need the real image packs (TRICKZOO_PACKS=folder)", "slow": "they are slow (-m slow)"}


def pytest_configure(config: pytest.Config) -> None:
    """Register the fixtures, whose imports take seconds, where tests run: not in the process that starts the workers of pytest-xdist."""
    if config.getoption("dist", "no") == "no" or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("tests.fixtures")
        gc.freeze()  # what is imported and collected lives until the end, and each full collection would look through it


def pytest_collection_finish() -> None:
    gc.freeze()


def left_out(config: pytest.Config) -> list[str]:
    """Markers of the tests that are not run: those that need packs that are not here, and the slow ones unless `-m slow` asks for them."""
    return [*([] if PACKS else ["packs"]), *([] if "slow" in config.option.markexpr else ["slow"])]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    without = [item for item in items if any(item.get_closest_marker(marker) for marker in left_out(config))]
    if without:
        items[:] = [item for item in items if item not in without]
        config.hook.pytest_deselected(items=without)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for marker in left_out(config):
        terminalreporter.write_line(f"left out, tests marked {marker}: {LEFT_OUT[marker]}")
