"""Rewrites trees into forms that can be compared: both values of ±, a factor taken into its matrix."""

from __future__ import annotations

from collections.abc import Sequence

from .names import assignment, in_given_order
from .tree import Apply, Items, Matrix, Node, Relation, Symbol

UNORDERED = ("list", "set")
"""Kinds of several values that have no order."""


def expand_signs(node: Node) -> Node:
    """
    Replace ``a ± b`` by the list of its two values; a list or set that holds such values takes them in.

    :param node: a tree
    """
    if isinstance(node, Apply) and _has_sign(node):
        return Items("list", (_with_sign(node, True), _with_sign(node, False)))
    if isinstance(node, Items) and node.kind in UNORDERED:
        items: list[Node] = []
        if in_given_order(node.items):
            # x = 0, y = ±1: the list is of names, not of values
            return node
        for item in node.items:
            expanded = expand_signs(item)
            if isinstance(expanded, Relation) and expanded != item:
                # x = 0, x = ±2
                items += spread(expanded)
            else:
                items += expanded.items if isinstance(expanded, Items) and expanded.kind == "list" else [expanded]
        return Items(node.kind, tuple(items))
    if isinstance(node, Relation) and any(_has_sign(member) for member in node.members):
        return Relation(node.ops, tuple(expand_signs(member) for member in node.members))
    return node


def spread(item: Node) -> Sequence[Node]:
    """
    Turn ``x = ±2`` into ``x = 2`` and ``x = -2``.

    :param item: member of a list
    """
    item = expand_signs(item)
    assigned = assignment(item) if isinstance(item, Relation) else None
    if assigned is None or not isinstance(assigned[1], Items) or assigned[1].kind != "list":
        return [item]
    return [Relation(("=",), (assigned[0], value)) for value in assigned[1].items]


def with_factor_inside(node: Node) -> Node:
    """
    Multiply the entries of a matrix by the factors, or the minus sign, before or behind it.

    :param node: a tree
    """
    if not isinstance(node, Apply) or node.op not in ("mul", "neg"):
        return node
    inner = [with_factor_inside(argument) for argument in node.args]
    matrices = [argument for argument in inner if isinstance(argument, Matrix)]
    others = tuple(argument for argument in inner if not isinstance(argument, Matrix))
    if len(matrices) != 1 or any(isinstance(factor, Items) for factor in others):
        return node
    return Matrix(tuple(tuple(Apply(node.op, (*others, entry)) for entry in row) for row in matrices[0].rows))


def is_letter_string(node: Node) -> bool:
    """
    Tell whether this is a run of three or more capitals, such as ``HTT`` or ``ABC_{16}``: letters in an order, no product.

    :param node: a tree
    """
    return (
        isinstance(node, Apply)
        and node.op == "mul"
        and len(node.args) >= 3
        and all(
            isinstance(factor, Symbol) and factor.name[0].isupper() and factor.name[1:2] in ("", "_") for factor in node.args
        )
    )


def _has_sign(node: Node) -> bool:
    return isinstance(node, Apply) and (
        node.op in ("plusminus", "minusplus") or any(_has_sign(argument) for argument in node.args)
    )


def _with_sign(node: Node, upper: bool) -> Node:
    if not isinstance(node, Apply):
        return node
    arguments = tuple(_with_sign(argument, upper) for argument in node.args)
    if node.op in ("plusminus", "minusplus"):
        return arguments[0] if (node.op == "plusminus") == upper else Apply("neg", arguments)
    return Apply(node.op, arguments)
