"""The house itself: imports point one way, pages are generated, the wheel is whole."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docs.generate import CARDS, DOCS, PAGES, plots

ROOT = Path(__file__).parents[1]

LAYERS = [
    {"errors"},
    {"files"},
    {"evidence"},
    {"registry", "backbone"},
    {"models"},
    {"weights"},
    {"catalogue", "factory", "tricks"},
    {"recipes"},
    {"data", "drawing"},
    {"training"},
    {"classification", "detection", "segmentation"},
    {"tasks"},
    {"studies"},
    {"cli"},
]
"""What may import what: a package imports from its own set and from those above it in this list."""


def imports(path: Path) -> list[str]:
    """The top-level parts of trickzoo that a file imports at run time."""
    found = []
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("trickzoo"):
            parts = node.module.split(".")
            found += [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "trickzoo").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    part = path.relative_to(ROOT / "trickzoo").parts[0].removesuffix(".py")
    if part == "__init__":
        return
    (level,) = [i for i, layer in enumerate(LAYERS) if part in layer]
    allowed = set().union(*LAYERS[: level + 1])
    assert not set(imports(path)) - allowed


def test_no_circle_of_imports_goes_through_a_backbone_or_a_weight() -> None:
    """Imports for types alone count too: whoever reads a module has read what it stands on."""
    known = {path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): path for path in (ROOT / "trickzoo").rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[name] = found & known.keys()

    def reached(name: str) -> set[str]:
        seen, waiting = set(), [name]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    names = [name for name in known if name.startswith(("trickzoo.backbone", "trickzoo.weights.", "trickzoo.models.", "trickzoo.factory"))]
    assert not [name for name in names if name in reached(name)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_what_their_sources_say(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "run `python docs/generate.py`"


def test_pages_show_the_plots_of_the_studies() -> None:
    there = {path: path.read_text(encoding="utf-8") for path in (DOCS / "assets").glob("*.svg")}
    assert there == plots(), "run `python docs/generate.py`"


def test_the_tricks_page_has_every_card() -> None:
    page = (DOCS / "tricks.md").read_text(encoding="utf-8")
    for card in CARDS.glob("*.md"):
        assert card.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") in page


def test_wheel_holds_the_manifest_and_works_without_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    for file in (ROOT / "weights_manifest").glob("*.toml"):
        assert f"trickzoo/weights_manifest/{file.name}" in names
    assert "trickzoo/py.typed" in names
    assert [name for name in names if name.endswith(".safetensors")] == [
        "trickzoo/weights_manifest/files/mobilenet_v1_025.tz_imagenette128.safetensors"
    ]
    assert wheel.stat().st_size < 2_000_000
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    path = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
    code = f"{path} import trickzoo; print(trickzoo.__file__, len(trickzoo.list_weights()))"
    code += "; trickzoo.create('mobilenet_v1_025.tz_imagenette128')"
    out = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert str(tmp_path / "site") in out
    assert int(out.split()[1]) >= 69


def test_no_name_of_a_package_hides_a_module_of_it() -> None:
    """Else what the name means depends on whether the module has been imported, and `import a.b.c as m` gives no module."""
    packages = [path.parent for path in sorted((ROOT / "trickzoo").rglob("__init__.py"))]
    for package in packages:
        name = ".".join(package.relative_to(ROOT).parts)
        for path in package.glob("*.py"):
            if path.stem not in ("__init__", "__main__"):
                module = importlib.import_module(f"{name}.{path.stem}")
                assert getattr(importlib.import_module(name), path.stem) is module


@pytest.mark.parametrize("path", sorted((ROOT / "trickzoo").rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_printer_alone_writes_to_the_terminal(path: Path) -> None:
    if path == ROOT / "trickzoo/cli/printing.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "input")
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] != "rich"
        if isinstance(node, ast.Import):
            assert "rich" not in {alias.name.partition(".")[0] for alias in node.names}


def test_listing_never_imports_torch() -> None:
    code = (
        "import sys, trickzoo; trickzoo.list_models(); trickzoo.list_weights(); trickzoo.describe('resnet50_d'); dir(trickzoo);"
        "from trickzoo.cli import zoo; zoo(['list'], result_action='return_value');"
        "zoo(['describe', 'resnet50_d'], result_action='return_value');"
        "assert not {'torch', 'timm', 'torchvision'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
