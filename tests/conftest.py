"""Every test runs in a cache of its own and without the network; the real image packs are used where TRICKZOO_PACKS names their folder."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the hub client is imported

import pytest
import torch

PACKS = os.environ.get("TRICKZOO_PACKS")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's cache, manifest, lock file or hub; the default endpoint refuses connections."""
    for name in ("TRICKZOO_MANIFEST", "TRICKZOO_LOCK", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TRICKZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pytest_configure() -> None:
    torch.set_num_threads(1)  # the networks here are small, and threads that wait for a busy core slow everything down


@pytest.fixture(scope="session")
def packs() -> Path:
    """Folder of the unpacked image packs, for tests marked `packs`."""
    assert PACKS is not None
    return Path(PACKS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what needs packs that are not here, and the slow ones unless `-m slow` asks for them."""
    reasons = {
        "packs": ("they need the real image packs (TRICKZOO_PACKS=folder)", PACKS is not None),
        "slow": ("they are slow (-m slow)", "slow" in config.option.markexpr),
    }
    config.stash[LEFT_OUT] = []
    for marker, (reason, wanted) in reasons.items():
        without = [] if wanted else [item for item in items if item.get_closest_marker(marker)]
        if without:
            items[:] = [item for item in items if item not in without]
            config.hook.pytest_deselected(items=without)
            config.stash[LEFT_OUT].append(f"{len(without)} tests left out: {reason}")


LEFT_OUT = pytest.StashKey[list[str]]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(line)
