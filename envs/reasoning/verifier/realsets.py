"""Sets of real numbers in one canonical form: sorted, disjoint intervals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key, reduce
from itertools import pairwise
from typing import NamedTuple

from .equality import Equality
from .numerics import Undefined, Value, symbols
from .tree import Apply, Constant, Items, Node, Quantity, Relation, SetOp, Symbol


class Interval(NamedTuple):
    """An interval; ``None`` for an endpoint stands for the infinity on that side. A point has equal, closed endpoints."""

    low: Value | None
    low_closed: bool
    high: Value | None
    high_closed: bool


RealSet = list[Interval]
_EVERYTHING = Interval(None, False, None, False)


def infinite_sign(node: Node) -> int:
    """
    Tell whether a tree is plus or minus infinity.

    :param node: a tree
    :return: 1, -1, or 0 for anything else
    """
    if isinstance(node, Constant) and node.name == "infty":
        return 1
    if isinstance(node, Apply) and node.op == "neg":
        return -infinite_sign(node.args[0])
    return 0


def real_set(node: Node, evaluator: Equality) -> RealSet:
    """
    Bring intervals, unions, finite sets of numbers, inequalities in one symbol and ``x ∈ …`` into canonical form.

    :param node: a tree
    :param evaluator: evaluates the endpoints
    :return: sorted, disjoint intervals
    :raises Undefined: if the tree is no set of real numbers
    """
    return _merged(_pieces(node, evaluator), evaluator)


def same_set(left: RealSet, right: RealSet, evaluator: Equality) -> bool:
    """
    Tell whether two canonical sets are equal, endpoints and brackets included.

    :param left: a set
    :param right: another
    :param evaluator: compares the endpoints
    """

    def same(a: Value | None, b: Value | None) -> bool:
        return a is b if a is None or b is None else evaluator.close(a, b)

    return len(left) == len(right) and all(
        same(a.low, b.low) and same(a.high, b.high) and a.low_closed == b.low_closed and a.high_closed == b.high_closed
        for a, b in zip(left, right, strict=True)
    )


def _pieces(node: Node, evaluator: Equality) -> RealSet:
    if isinstance(node, Items):
        if node.kind in ("set", "list"):
            if any(isinstance(item, Relation | Items | SetOp) for item in node.items):
                return _listed(node.items, evaluator)
            points = [evaluator.real(item) for item in node.items]
            return [Interval(point, True, point, True) for point in points]
        if node.kind[0] in "([" and len(node.items) == 2:
            return _interval(node.items[0], node.kind[0] == "[", node.items[1], node.kind[1] == "]", evaluator)
    if isinstance(node, SetOp):
        left, right = real_set(node.left, evaluator), real_set(node.right, evaluator)
        if node.op == "cup":
            return left + right
        both = _intersection(left, right if node.op == "cap" else _complement(right), evaluator)
        if not both and isinstance(node.right, Relation):
            raise Undefined("conditions that no number meets")
        return both
    if isinstance(node, Relation):
        return _inequality(node, evaluator)
    raise Undefined("no set of real numbers")


def _listed(items: Sequence[Node], evaluator: Equality) -> RealSet:
    """
    Sets with commas between them: their union. Conditions that overlap (``x > 1, x < 2``; ``x >= -1, x != 0``) are meant to hold
    together, those that exclude each other (``x < 1, x > 3``) are cases. Conditions on several unknowns are no set of numbers.
    """
    unknowns = {
        member for item in items if isinstance(item, Relation) for member in item.members if isinstance(member, Symbol)
    }
    if len(unknowns) > 1:
        raise Undefined("conditions on several unknowns")
    sets = [real_set(item, evaluator) for item in items]
    pieces = _ordered([piece for found in sets for piece in found], evaluator)
    if all(isinstance(item, Relation) for item in items):
        shared = reduce(lambda left, right: _intersection(left, right, evaluator), sets)
        if shared:
            return shared
        if any(_intersection([left], [right], evaluator) for left, right in pairwise(pieces)):
            raise Undefined("conditions of which only some overlap")
    return pieces


def _interval(low: Node, low_closed: bool, high: Node, high_closed: bool, evaluator: Equality) -> RealSet:
    if infinite_sign(low) > 0 or infinite_sign(high) < 0:
        raise Undefined("an interval that runs backwards")
    if (infinite_sign(low) and low_closed) or (infinite_sign(high) and high_closed):
        raise Undefined("an interval closed at infinity")
    left = None if infinite_sign(low) else evaluator.real(low)
    right = None if infinite_sign(high) else evaluator.real(high)
    if left is not None and right is not None and not evaluator.below(left, right):
        if evaluator.close(left, right) and low_closed and high_closed:
            return [Interval(left, True, left, True)]
        raise Undefined("an interval that runs backwards")
    return [Interval(left, low_closed, right, high_closed)]


def _inequality(node: Relation, evaluator: Equality) -> RealSet:
    """``a < x <= b``, ``x > a``, ``x ≠ a``, ``x ∈ S``, ``x = a``."""
    places = [k for k, member in enumerate(node.members) if isinstance(member, Symbol)]
    if len(places) != 1 or len(node.members) > 3:
        raise Undefined("an inequality in several symbols")
    place = places[0]
    pieces: RealSet = [_EVERYTHING]
    for k, op in enumerate(node.ops):
        if k not in (place, place - 1):
            raise Undefined("an inequality between numbers")
        on_left = k == place
        other = node.members[k + 1] if on_left else node.members[k]
        if op == "in":
            if not on_left:
                raise Undefined("∈ the wrong way round")
            piece = real_set(other, evaluator)
        else:
            if isinstance(other, Quantity) or symbols(other):
                raise Undefined("an inequality that is not solved")
            if infinite_sign(other):
                # -∞ < x says nothing
                if op != "<" or infinite_sign(other) != (1 if on_left else -1):
                    raise Undefined("an inequality with infinity")
                continue
            piece = _beside(evaluator.real(other), op, on_left)
        pieces = _intersection(pieces, piece, evaluator)
    return pieces


def _beside(bound: Value, op: str, on_left: bool) -> RealSet:
    """The numbers x for which ``x op bound`` holds, or ``bound op x``."""
    point = Interval(bound, True, bound, True)
    if op == "=":
        return [point]
    if op == "!=":
        return _complement([point])
    if op not in ("<", "<=", ">", ">="):
        raise Undefined(op)
    if op.startswith("<") == on_left:
        return [Interval(None, False, bound, op.endswith("="))]
    return [Interval(bound, op.endswith("="), None, False)]


def _compare_low(a: Interval, b: Interval, evaluator: Equality) -> int:
    """Order by the left end: an open end starts later than a closed one at the same number."""
    if a.low is None or b.low is None:
        return (a.low is not None) - (b.low is not None)
    if evaluator.close(a.low, b.low):
        return int(b.low_closed) - int(a.low_closed)
    return -1 if evaluator.below(a.low, b.low) else 1


def _compare_high(a: Interval, b: Interval, evaluator: Equality) -> int:
    """Order by the right end."""
    if a.high is None or b.high is None:
        return (a.high is None) - (b.high is None)
    if evaluator.close(a.high, b.high):
        return int(a.high_closed) - int(b.high_closed)
    return -1 if evaluator.below(a.high, b.high) else 1


def _touch(a: Interval, b: Interval, evaluator: Equality) -> bool:
    """Whether b, which does not start before a, starts before a has ended, or right where it ends."""
    if a.high is None or b.low is None:
        return True
    if evaluator.close(a.high, b.low):
        return a.high_closed or b.low_closed
    return evaluator.below(b.low, a.high)


def _ordered(pieces: RealSet, evaluator: Equality) -> RealSet:
    def by_low(a: Interval, b: Interval) -> int:
        evaluator.charge(50)
        return _compare_low(a, b, evaluator)

    return sorted(pieces, key=cmp_to_key(by_low))


def _merged(pieces: RealSet, evaluator: Equality) -> RealSet:
    merged: RealSet = []
    for piece in _ordered(pieces, evaluator):
        if merged and _touch(merged[-1], piece, evaluator):
            last = merged[-1]
            if _compare_high(last, piece, evaluator) < 0:
                merged[-1] = Interval(last.low, last.low_closed, piece.high, piece.high_closed)
        else:
            merged.append(piece)
    return merged


def _complement(pieces: RealSet) -> RealSet:
    """The complement of a canonical set."""
    gaps: RealSet = []
    low: Value | None = None
    low_closed, ended = False, False
    for piece in pieces:
        if piece.low is not None:
            gaps.append(Interval(low, low_closed, piece.low, not piece.low_closed))
        if piece.high is None:
            ended = True
            break
        low, low_closed = piece.high, not piece.high_closed
    return gaps if ended else [*gaps, Interval(low, low_closed, None, False)]


def _intersection(left: RealSet, right: RealSet, evaluator: Equality) -> RealSet:
    found: RealSet = []
    for a in left:
        for b in right:
            evaluator.charge(150)
            start = a if _compare_low(a, b, evaluator) >= 0 else b
            end = a if _compare_high(a, b, evaluator) <= 0 else b
            if start.low is not None and end.high is not None:
                if evaluator.close(start.low, end.high):
                    if not (start.low_closed and end.high_closed):
                        continue
                elif evaluator.below(end.high, start.low):
                    continue
            found.append(Interval(start.low, start.low_closed, end.high, end.high_closed))
    return found
