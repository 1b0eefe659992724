"""Each package's docstring says what is in which of its modules: a map that leaves none out and names none that is not there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = (
    "sppo_rl",
    "sppo_rl/llm",
    "sppo_rl/llm/generation",
    "envs/control",
    "envs/reasoning",
    "envs/reasoning/verifier",
    "zoo",
    "zoo/commands",
    "zoo/imitation",
    "zoo/language",
    "zoo/parallel",
    "zoo/results",
    "zoo/running",
    "zoo/settings",
    "zoo/shipped",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_a_package_is_complete(package: str) -> None:
    folder = REPOSITORY / package
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    assert text is not None
    named = re.findall(r"``(\w+)``", text)
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert modules <= set(named), f"not on the map: {sorted(modules - set(named))}"
    gone = {name for name in named if name.islower()} - modules
    assert not gone, f"on the map, and not there: {sorted(gone)}"


def test_the_zoo_has_floors() -> None:
    """A folder of the zoo imports those that stand before it on the zoo's map, and no other."""
    text = (REPOSITORY / "zoo" / "__init__.py").read_text(encoding="utf-8")
    order = re.findall(r"``(\w+)/?``:", text)
    assert set(order) == {path.stem for path in (REPOSITORY / "zoo").glob("[a-z]*.py")} | {
        path.parent.name for path in (REPOSITORY / "zoo").glob("*/__init__.py")
    }
    for path in (REPOSITORY / "zoo").glob("**/[a-z]*.py"):
        room = path.relative_to(REPOSITORY / "zoo").parts[0].removesuffix(".py")
        code = path.read_text(encoding="utf-8")
        needed = set(re.findall(r"(?:from|import) sppo_rl\.zoo\.(\w+)", code))
        for names in re.findall(r"from sppo_rl\.zoo import (.+)", code):
            needed |= set(re.findall(r"\w+", names)) & set(order)
        above = needed - set(order[: order.index(room) + 1])
        assert not above, f"{path.relative_to(REPOSITORY)} imports {', '.join(sorted(above))}"
