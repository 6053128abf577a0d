"""The project as a whole: imports point one way, pages are generated, and the wheel is complete."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from docs.generate import PAGES, plots
from docs.pages.places import CARDS, DOCS
from trickzoo.data.layouts import LAYOUTS
from trickzoo.weights import manifest

ROOT = Path(__file__).parents[1]

LAYERS = [
    {"errors", "moved", "output_files", "signals", "wording"},
    {"addresses"},
    {"files"},
    {"environment", "foreign", "result_files", "bootstrap"},
    {"registry", "backbone", "folding", "modes"},
    {"models"},
    {"weights"},
    {"catalogue", "factory", "interop", "tricks"},
    {"recipes"},
    {"data", "drawing", "pages"},
    {"training"},
    {"classification", "detection", "segmentation"},
    {"deployment"},
    {"tasks", "loading", "gluoncv"},
    {"studies", "publication"},
    {"cli"},
    {"__main__"},
]
"""What may import what: a part imports from itself and from the sets above its own in this list."""
PACKAGE = ROOT / "trickzoo"
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in PACKAGE.rglob("*.py")}


def level(part: str) -> int:
    """The place of a part of trickzoo in `LAYERS`."""
    (found,) = [i for i, layer in enumerate(LAYERS) if part in layer]
    return found


def imports(path: Path, *, types: bool = False) -> set[str]:
    """The modules of trickzoo that a file imports at run time; with `types` also those that it imports for annotations only."""
    found = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if not types and isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "trickzoo":
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= {name if name in FILES else node.module for name in names}
    return found


@pytest.mark.parametrize("module", sorted(FILES))
def test_imports_point_one_way(module: str) -> None:
    if module == "trickzoo":
        return
    own = module.split(".")[1]
    parts = {name.split(".")[1] for name in imports(FILES[module]) if name != "trickzoo"}
    assert {part for part in parts - {own} if level(part) > level(own)} == set()
    beside = {part for part in parts - {own} if level(part) == level(own)}
    assert not beside or own not in {"classification", "detection", "segmentation"}, "a task imports another"


def test_no_files_import_each_other() -> None:
    graph = {module: imports(path, types=True) - {module} for module, path in FILES.items() if module != "trickzoo"}
    while free := {module for module, needed in graph.items() if not needed & graph.keys()}:
        graph = {module: needed for module, needed in graph.items() if module not in free}
    assert graph == {}


def test_the_flows_go_down_the_layers() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| ") and "→" in row]
    assert len(rows) == 5
    for flow in (flow for row in rows for flow in row.split(";")):
        steps = [name.split("/")[0] for name in re.findall("`([a-z_/]+)`", flow)]
        levels = [level(step) for step in steps if (PACKAGE / step).is_dir() or (PACKAGE / f"{step}.py").is_file()]
        assert levels == sorted(levels, reverse=True), flow
        assert len(levels) > 2


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_are_what_their_sources_say(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "run `python docs/generate.py`"


def test_pages_show_the_plots_of_the_studies() -> None:
    there = {path: path.read_text(encoding="utf-8") for path in (DOCS / "assets").glob("*.svg")}
    assert there == plots(), "run `python docs/generate.py`"


def test_links_of_pages_lead_to_files() -> None:
    for page in (*DOCS.glob("*.md"), *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_links_to_sections_lead_to_headings() -> None:
    pages = (*DOCS.glob("*.md"), *ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md")
    texts = {page.resolve(): re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL) for page in pages}
    headings = {page: set(map(anchor, re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE))) for page, text in texts.items()}
    for page, text in texts.items():
        for target, section in re.findall(r"\]\(([^)#:\s]*)#([^)]+)\)", text):
            assert section in headings[(page.parent / target).resolve() if target else page], f"{page.name} links to {target}#{section}"


def anchor(heading: str) -> str:
    """Return the fragment by which MkDocs and GitHub link to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_pages_of_the_api_name_what_exists() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    entries = re.findall(r"^::: (\S+)(?:\n    options:\n      members: \[(.+)\])?", page, flags=re.MULTILINE)
    assert len(entries) == page.count(":::")
    for path, members in entries:
        module = path if path in FILES else path.rpartition(".")[0]
        names = members.split(", ") if members else [path.rpartition(".")[2]] if module != path else []
        for name in names:
            assert name in defined(FILES[module]), f"{module} does not define {name}"


def defined(path: Path) -> set[str]:
    """Return the names of the functions, classes and values that a file defines itself, without those that it imports."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


def test_pages_are_in_the_menu_and_on_the_home_page() -> None:
    menu, home = (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), (DOCS / "index.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name in menu
        assert page.name == "index.md" or f"({page.name})" in home


def test_the_tricks_page_has_every_card() -> None:
    page = (DOCS / "tricks.md").read_text(encoding="utf-8")
    for card in CARDS.glob("*.md"):
        assert card.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") in page


def test_the_pages_name_every_layout_and_its_recipe() -> None:
    page, own = ((DOCS / name).read_text(encoding="utf-8") for name in ("detection.md", "data.md"))

    def named(pattern: str, text: str = page, word: str = r"`(\w+)`") -> set[str]:
        (found,) = re.findall(pattern, text)
        return set(re.findall(word, found))

    small = {name: {reader.recipe for reader in layout.readers.values()} for name, layout in LAYOUTS.items()}
    assert named(r"The default for (.*?)\.") == {
        name for name, recipes in small.items() if any(each.startswith("small.") for each in recipes)
    }
    assert named(r"The default recipe of (.*?) is", own) == {name for name, recipes in small.items() if "small.detection" in recipes}
    assert named(r"trickzoo eval (coco \|.*?) --data", word=r"\w+") == {name for name, layout in LAYOUTS.items() if not layout.generated}
    table = page.partition("## Images")[2].partition("\nSplits")[0]
    assert {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)} == LAYOUTS.keys()


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
    packaged = ("mobilenet_v1_025.tz_imagenette128", *manifest.networks())
    files = sorted(f"trickzoo/weights_manifest/files/{name}.safetensors" for name in packaged)
    assert sorted(name for name in names if name.endswith(".safetensors")) == files
    assert wheel.stat().st_size < 10_000_000
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    path = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r});"
    code = f"{path} import trickzoo; print(trickzoo.__file__, len(trickzoo.list_weights()))"
    code += "; trickzoo.create('mobilenet_v1_025.tz_imagenette128'); [trickzoo.load(name) for name in trickzoo.list_networks()]"
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
