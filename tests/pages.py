"""The project's pages, read by the tests that hold them to the code and to the results."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md")), *sorted((REPOSITORY / "benchmarks").glob("*.md"))]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for name, code in fences if name == language]


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level, text = heading.split(" ", 1)[0], page.read_text()
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no {heading!r}"
    return found[1]


def table(text: str) -> Iterator[list[str]]:
    """The cells of each line of tables, those of headings among them."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            # GitHub reads an escaped bar as part of the cell
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
