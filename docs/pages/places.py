"""The folders and files of the generated pages."""

from pathlib import Path

DOCS = Path(__file__).parents[1]
CARDS = DOCS.parent / "trickzoo" / "tricks"
STUDIES = DOCS.parent / "benchmarks" / "results"
README = DOCS.parent / "README.md"
