"""Tables of cells that are words already: in Markdown for files, and for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.markup import escape
from rich.table import Table


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Draw a table in Markdown.

    :param headings: of the columns
    :param rows: cells of each row
    :return: lines, without one that ends the last
    """
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def failed_runs(problems: Iterable[tuple[str, str]]) -> str:
    """
    List runs that failed, for below a table.

    :param problems: name of a run, and why it failed
    :return: lines, the first of them empty; nothing where no run failed
    """
    lines = [f"- {name}: {problem}\n" for name, problem in problems]
    return "\nFailed:\n\n" + "".join(lines) if lines else ""


def rich_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """
    Draw a table for a terminal of 80 columns: intervals go below their means.

    :param headings: of the columns
    :param rows: cells of each row
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(cell.replace(" [", "\n[")) for cell in row))
    return table
