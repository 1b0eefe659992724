"""Names in front of values: what is decoration in ``AB = 5``, and what is an equation that is left to solve."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from .numerics import symbols, symbols_of
from .tree import Apply, Constant, Items, Node, Number, Relation, Symbol

_LETTERS = (Constant("e"), Constant("i"))
"""Constants that may be letters of a name."""
_USUAL_ORDERS = (("r", "theta", "phi"), ("rho", "theta", "phi"), ("m", "b"), ("m", "c"), ("n", "k"), ("n", "r"))
"""Names whose usual order is not the alphabetical one: polar coordinates, slope and intercept, n over k."""
_UNKNOWNS = ("x", "z", "t", "lambda")
_MINUS_ONE = Apply("neg", (Number(Fraction(1)),))


def is_name(node: Node, of_matrix: bool = False) -> bool:
    """
    Tell whether a value may be given to this: ``x``, ``f(x)``, ``AB``, ``|z|``, ``x + y``, ``r^2``, ``dy/dx``, ``\\angle ABC``,
    ``(x, y)``, ``a : b``, words. ``-x``, ``x/y`` and ``\\sin x`` before an equals sign are equations that are left to solve.

    :param node: the tree before an equals sign
    :param of_matrix: whether the value is a matrix, whose name may be an inverse
    """
    if isinstance(node, Symbol):
        return True
    if isinstance(node, Items):
        return node.kind in ("()", "ratio") and all(isinstance(item, Symbol) for item in node.items)
    if not isinstance(node, Apply):
        return False
    if node.op.startswith("call:"):
        return True
    if node.op == "pow":
        base, exponent = node.args
        if of_matrix and exponent == _MINUS_ONE:
            return is_name(base)
        return is_name(base) and isinstance(exponent, Number | Symbol) and not _is_fraction(exponent)
    if node.op == "abs":
        return is_name(node.args[0])
    if node.op == "mul":
        return _is_derivative(node) or (
            bool(symbols(node)) and all(is_name(factor) or factor in _LETTERS for factor in node.args)
        )
    if node.op == "add":
        first, *others = node.args
        others = [term.args[0] if isinstance(term, Apply) and term.op == "neg" else term for term in others]
        return all(is_name(term) for term in [first, *others])
    return False


def is_value_of_an_angle(node: Node) -> bool:
    """
    Tell whether this is ``\\sin \\theta`` or the like, which may be asked for, or be an equation that is left to solve.

    :param node: the tree before an equals sign
    """
    return isinstance(node, Apply) and node.op in ("sin", "cos", "tan", "cot", "sec", "csc") and is_name(node.args[0])


def _is_fraction(node: Node) -> bool:
    return isinstance(node, Number) and node.value.denominator != 1


def _is_derivative(node: Apply) -> bool:
    """Whether this is ``\\frac{dy}{dx}``."""
    if len(node.args) != 2 or not isinstance(node.args[1], Apply) or node.args[1].op != "inv":
        return False
    sides = (node.args[0], node.args[1].args[0])
    return all(isinstance(side, Apply) and side.op == "mul" and side.args[0] == Symbol("d") for side in sides)


def assignment(node: Relation) -> tuple[Node, Node] | None:
    """
    Split ``name = value``; ``5 = x`` too.

    :param node: a relation
    :return: the name and the value, or ``None`` for any other relation
    """
    if node.ops != ("=",):
        return None
    left, right = node.members
    for name, value in ((left, right), (right, left)):
        applied = isinstance(name, Apply) and name.op.startswith("call:")
        simple = isinstance(name, Symbol) or (isinstance(name, Items) and is_name(name))
        if applied or (simple and not (symbols_of(name) & symbols_of(value))):
            return name, value
        if is_run_of_capitals(name) and not symbols_of(value):
            return name, value
    return None


def stripped(items: Sequence[Node]) -> list[Node]:
    """
    Of ``x = 1, x = -2`` (or ``x_1 = 1, x_2 = -2``) take the values, if all names are the same variable.

    :param items: members of a list
    """
    assigned = [assignment(item) if isinstance(item, Relation) else None for item in items]
    names = {str(pair[0].name).split("_")[0] for pair in assigned if pair is not None and isinstance(pair[0], Symbol)}
    if len(names) == 1 and all(
        pair is not None or not isinstance(item, Relation) for pair, item in zip(assigned, items, strict=True)
    ):
        return [item if pair is None else pair[1] for pair, item in zip(assigned, items, strict=True)]
    return list(items)


def coordinates(items: Sequence[Node]) -> list[Node] | None:
    """
    Of ``x = 1, y = 2`` take the values, in the order of the names. They must be written in alphabetical order, but for ``x``, ``y`` and
    ``z``, whose order is plain; which order ``n = 1, m = 2`` has, only the problem says.

    :param items: members of a list or tuple
    :return: the items themselves where none has a name; ``None`` where the order is unclear
    """
    relations = [item for item in items if isinstance(item, Relation) and set(item.ops) <= {"=", "~"}]
    if not relations:
        return list(items)
    named = [_named(item) for item in relations]
    names = [pair[0] for pair in named if pair is not None]
    if len(names) < len(items) or len(set(names)) < len(names):
        return None
    pairs = [pair for pair in named if pair is not None]
    if {letter for letter, *_ in names} <= {"x", "y", "z"}:
        pairs.sort(key=lambda pair: pair[0])
    elif names != sorted(names) and tuple(letter for letter, *_ in names) not in _USUAL_ORDERS:
        return None
    return [value for _, value in pairs]


def in_usual_order(names: Sequence[Node]) -> bool:
    """
    Tell whether the names of ``(x, y) = (1, 2)`` stand in their usual order. One that writes ``(n, k)`` has it from the problem;
    ``(y, x)``, ``(b, a)`` and ``(x_2, x_1)`` turn a plain order round.

    :param names: symbols
    """
    keys = [_key(name) for name in names]
    letters = {letter for letter, *_ in keys}
    plain = letters <= set("xyz") or letters <= set("abcd") or len(letters) == 1
    return len(set(keys)) == len(keys) and (not plain or keys == sorted(keys))


def in_given_order(items: Sequence[Node]) -> bool:
    """
    Tell whether items are values of different names, ``x = 1, y = 2``: without the names only their order says which is which.

    :param items: members of a list
    """
    assigned = [assignment(item) if isinstance(item, Relation) else None for item in items]
    names = [pair[0] for pair in assigned if pair is not None]
    return len(names) == len(items) and len(set(names)) > 1 and not unknown_of(items)


def unknown_of(items: Sequence[Node]) -> str:
    """
    Give the unknown whose values these are, where they are numbered from 1: ``x_1 = 1, x_2 = -2``. Of other letters the number says
    more: ``a_1`` and ``a_2`` are terms of a sequence.

    :param items: members of a list
    :return: the letter, or an empty string
    """
    names = set(_assigned_names(items))
    for letter in _UNKNOWNS:
        if names == {f"{letter}_{k + 1}" for k in range(len(items))}:
            return letter
    return ""


def may_be_values_of(unknown: str, items: Sequence[Node]) -> bool:
    """
    Tell whether items have no names, or are all values of one unknown. Numbered ones keep their numbers: ``x_1`` and ``x_2`` may be the
    unknowns of a system.

    :param unknown: a letter
    :param items: members of a list
    """
    relations = sum(isinstance(item, Relation) for item in items)
    names = _assigned_names(items)
    return len(names) == relations and set(names) <= {unknown}


def _assigned_names(items: Sequence[Node]) -> list[str]:
    assigned = [assignment(item) if isinstance(item, Relation) else None for item in items]
    return [pair[0].name for pair in assigned if pair is not None and isinstance(pair[0], Symbol)]


def with_their_names(names: Node, values: Node) -> Items | None:
    """
    Turn ``(a, b) = (1, 2)`` into the list ``a = 1, b = 2``.

    :param names: a tuple of names
    :param values: what they are equal to
    :return: ``None`` where that is no tuple or list of as many values without names
    """
    if not isinstance(names, Items) or not isinstance(values, Items) or len(names.items) != len(values.items):
        return None
    if values.kind not in ("()", "list") or any(isinstance(value, Relation) for value in values.items):
        return None
    return Items("list", tuple(Relation(("=",), pair) for pair in zip(names.items, values.items, strict=True)))


def same_name(left: Node, right: Node, turned: bool) -> bool:
    """
    Tell whether two names are the same.

    :param left: a name
    :param right: another
    :param turned: whether ``BA`` is ``AB``, as the length of a segment is; a vector or a product of matrices is not
    """
    if left == right or not turned:
        return left == right
    if not isinstance(left, Apply) or not isinstance(right, Apply) or len(left.args) != 2:
        return False
    return is_run_of_capitals(left) and is_run_of_capitals(right) and left.args == right.args[::-1]


def is_run_of_capitals(node: Node) -> bool:
    """
    Tell whether this is a name such as ``AB``: a segment, and no product that an equation is about, as ``xy = 6`` is.

    :param node: the tree before an equals sign
    """
    return (
        isinstance(node, Apply)
        and node.op == "mul"
        and all(isinstance(factor, Symbol) and len(factor.name) == 1 and factor.name.isupper() for factor in node.args)
    )


def _named(item: Relation) -> tuple[tuple[str, int, str], Node] | None:
    """Split ``x = value``, ``x = value ≈ value`` or ``value = x`` into a key to order its name by, and the value."""
    assigned = assignment(item)
    if assigned is not None:
        name, value = assigned
    elif is_name(item.members[0]):
        name, rest = item.members[0], item.members[1:]
        value = Relation(item.ops[1:], rest) if len(rest) > 1 else rest[0]
    else:
        return None
    return _key(name), value


def _key(name: Node) -> tuple[str, int, str]:
    """To order names by: ``x_2`` stands before ``x_10``."""
    text = name.name if isinstance(name, Symbol) else repr(name)
    letter, _, index = text.partition("_")
    return letter, int(index) if index.isdigit() and len(index) < 10 else 0, index
