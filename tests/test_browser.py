"""The reports of the three tasks in a browser, on a wide screen and on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import caller
from tests.training import COSINE, SMALL
from trickzoo.cli import zoo

pytestmark = pytest.mark.slow

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MADE = ("--weights", "none", "--epochs", 1, "--batch-size", 2)
TASKS = {
    "classification": ("train", "--recipe", COSINE, *SMALL),
    "detection": ("finetune", "shapes", "--task", "detection", "--images", 10, "--short", 32, "--long", 32, "--proposals", 20, *MADE),
    "segmentation": ("finetune", "shapes", "--task", "segmentation", "--images", 10, "--short", 32, "--base", 32, "--crop", 32, *MADE),
}
"""The training of each task."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, as Playwright or the system has it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    with playwright.sync_playwright() as programs:
        found = next(
            filter(
                None,
                [Path(programs.chromium.executable_path).is_file() and programs.chromium.executable_path, *map(shutil.which, BROWSERS)],
            ),
            None,
        )
        if found is None:
            pytest.skip("there is no Chromium (playwright install chromium, or the system's package)")
        chromium = programs.chromium.launch(executable_path=found, args=["--no-sandbox"])  # which root needs, and the pages are our own
        yield chromium
        chromium.close()


@pytest.mark.parametrize("task", TASKS)
def test_reports_fit_every_screen_and_load_nothing(
    task: str, browser: Any, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call, run, evaluated = caller(capsys, zoo), tmp_path / "run", tmp_path / "evaluated.html"
    data: tuple[Any, ...] = ("--data", colours) if task == "classification" else ()
    status, _, error = call(*TASKS[task], *data, "--out", run, "--workers", 0)
    assert status == 0, error
    of_what = ("imagenet", *data) if data else ("shapes", "--images", 3)
    status, _, error = call("eval", *of_what, "--model", run, "--report", evaluated, "--pictures", 2, "--workers", 0)
    assert status == 0, error
    assert (run / "report.html").stat().st_size < 2_000_000
    for path, pictures in ((run / "report.html", range(2, 13)), (evaluated, range(2, 5))):
        for width in (1280, 390):
            page, heard = browser.new_page(viewport={"width": width, "height": 844}), []
            page.on("console", lambda message, heard=heard: heard.append(message.text))
            page.on("pageerror", lambda error, heard=heard: heard.append(str(error)))
            page.on("request", lambda request, heard=heard: request.url.startswith("data:") or heard.append(request.url))
            page.goto(path.as_uri())
            assert heard == [path.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            captions = "[...document.querySelectorAll('caption')].map(caption => caption.getBoundingClientRect().right)"
            assert all(right <= width for right in page.evaluate(captions))
            made = "[...document.querySelectorAll('#made .scroll')].map(table => table.scrollWidth - table.clientWidth)"
            assert not any(page.evaluate(made))  # commands, versions and digests are wrapped
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)") and page.locator("img").count() in pictures
            figures = page.locator("figure > div > svg")
            assert 2 * page.locator("figure > div > svg:visible").count() == figures.count()  # one of the wide and the narrow form
            assert page.locator("h2:visible").count() >= 5
            page.close()
