"""Decides whether two answers are the same, form by form. The table in ``docs/verifier.md`` says why each form is treated so."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from .equality import Equality
from .forms import UNORDERED, expand_signs, is_letter_string, spread, with_factor_inside
from .names import (
    assignment,
    coordinates,
    in_given_order,
    in_usual_order,
    is_name,
    is_run_of_capitals,
    is_value_of_an_angle,
    may_be_values_of,
    same_name,
    stripped,
    unknown_of,
    with_their_names,
)
from .numerics import Undefined, symbols, symbols_of
from .realsets import infinite_sign, real_set, same_set
from .roundings import PERCENT, hundredth, is_rounded, step
from .tree import Apply, BaseNumber, Items, Labelled, Matrix, Node, Number, Quantity, Relation, SetOp, Symbol

_CHOICES = frozenset("ABCDEF")
_LONGEST_CHAIN = 8
"""Members of a chain ``a = b ≈ c``, without the name in front."""


class Comparison:
    """
    Compares trees of answers.

    :param lenient: also accept what strict mode leaves open: an omitted base, natural logarithms written ``\\log``, a value rounded to
        the gold's digits, another unit, brackets of another kind around a tuple or vector
    """

    def __init__(self, lenient: bool = False):
        self.lenient = lenient
        self.evaluator = Equality()

    def same(self, gold: Node, answer: Node) -> bool:
        """
        Tell whether an answer is the gold answer.

        :param gold: its tree
        :param answer: tree of the answer
        :raises TooComplex: if the comparison would cost too much
        """
        self.evaluator.charge(20)
        if isinstance(gold, Labelled) or isinstance(answer, Labelled):
            return self._labelled(gold, answer)
        gold, answer = (with_factor_inside(expand_signs(node)) for node in (gold, answer))
        if isinstance(gold, Relation):
            return self._relation(gold, answer)
        if isinstance(answer, Relation):
            return self._answered_by_relation(gold, answer)
        if isinstance(gold, Quantity) or isinstance(answer, Quantity):
            return self._quantities(gold, answer)
        if isinstance(gold, SetOp) or isinstance(answer, SetOp):
            return self._real_sets(gold, answer)
        if isinstance(gold, Items):
            return self._items(gold, answer)
        if isinstance(gold, Matrix) or isinstance(answer, Matrix):
            return self._matrices(gold, answer)
        if isinstance(answer, Items):
            return answer.kind == "set" and len(answer.items) == 1 and self.same(gold, answer.items[0])
        if isinstance(gold, BaseNumber) or isinstance(answer, BaseNumber):
            return self._base_numbers(gold, answer)
        if infinite_sign(gold) or infinite_sign(answer):
            return infinite_sign(gold) == infinite_sign(answer)
        return self._values(gold, answer)

    # ---------------------------------------------------------------- single values
    def _values(self, gold: Node, answer: Node) -> bool:
        if gold == answer:
            return True
        if is_letter_string(gold):
            return False
        try:
            if self.evaluator.equal(gold, answer):
                return True
            return self.lenient and (self._rounds_to(gold, answer) or self._equal_naturally(gold, answer))
        except Undefined:
            return False

    def _rounds_to(self, gold: Node, answer: Node) -> bool:
        """Lenient: the answer, rounded to the digits that a decimal gold shows, is the gold."""
        sign = 1
        if isinstance(gold, Apply) and gold.op == "neg":
            gold, sign = gold.args[0], -1
        if not isinstance(gold, Number) or gold.value.denominator == 1 or symbols(answer):
            return False
        place = step(gold.value)
        if place is None:
            return False
        distance = Apply("abs", (Apply("add", (Number(sign * gold.value), Apply("neg", (answer,)))),))
        return not self.evaluator.below(place / 2, self.evaluator.real(distance))

    def _equal_naturally(self, gold: Node, answer: Node) -> bool:
        """Lenient: a logarithm that names no base may be a natural one."""
        readings = _with_natural_logarithms(gold), _with_natural_logarithms(answer)
        return readings != (gold, answer) and self.evaluator.equal(*readings)

    def _base_numbers(self, gold: Node, answer: Node) -> bool:
        if isinstance(gold, BaseNumber) and isinstance(answer, BaseNumber):
            return gold == answer
        if self.lenient and isinstance(gold, BaseNumber) and isinstance(answer, Number):
            return answer.value == int(gold.digits)
        return False

    def _quantities(self, gold: Node, answer: Node) -> bool:
        gold_value, gold_unit = (gold.value, gold.unit) if isinstance(gold, Quantity) else (gold, None)
        answer_value, answer_unit = (answer.value, answer.unit) if isinstance(answer, Quantity) else (answer, None)
        differ = gold_unit is not None and answer_unit is not None and gold_unit != answer_unit
        if differ and (PERCENT in (gold_unit, answer_unit) or not self.lenient):
            return False
        if answer_unit == PERCENT and gold_unit is None:
            return self._percent(answer_value, gold_value)
        if gold_unit == PERCENT and answer_unit is None:
            return self._percent(gold_value, answer_value)
        return self.same(gold_value, answer_value)

    def _percent(self, percent: Node, plain: Node) -> bool:
        """``50%`` is 50 where percent are asked for and 1/2 elsewhere; 0.5% is never 0.5."""
        if isinstance(plain, Items | Relation | SetOp | Matrix | BaseNumber):
            return False
        if self._values(plain, hundredth(percent)):
            return True
        try:
            fraction = self.evaluator.below(self.evaluator.real(Apply("abs", (plain,))), Fraction(1))
        except Undefined:
            return False
        return not fraction and self._values(plain, percent)

    def _labelled(self, gold: Node, answer: Node) -> bool:
        if isinstance(gold, Labelled):
            if isinstance(answer, Labelled):
                return gold.label == answer.label and self.same(gold.value, answer.value)
            return answer == Symbol(gold.label) or self.same(gold.value, answer)
        assert isinstance(answer, Labelled)
        if isinstance(gold, Symbol) and _is_choice(gold):
            return gold.name == answer.label
        return self.same(gold, answer.value)

    # ---------------------------------------------------------------- several values
    def _items(self, gold: Items, answer: Node) -> bool:
        if isinstance(answer, Matrix):
            column = [entry for row in answer.rows for entry in row]
            return self.lenient and gold.kind == "()" and self._in_order(gold.items, column)
        if not isinstance(answer, Items):
            return gold.kind == "set" and len(gold.items) == 1 and self.same(gold.items[0], answer)
        if in_given_order(gold.items) and not all(isinstance(item, Relation) for item in answer.items):
            return answer.kind in ("list", "()") and self._in_order(gold.items, answer.items)
        if gold.kind in UNORDERED and answer.kind in UNORDERED:
            return self._without_order(gold, answer)
        if answer.kind == "list" and all(_interval_like(item) for item in answer.items):
            return self._real_sets(gold, answer)
        kinds = {gold.kind, answer.kind}
        brackets_may_differ = self.lenient and len(gold.items) > 2 and not {"ratio", "clock"} & kinds
        if len(kinds) == 1 or kinds == {"list", "()"} or brackets_may_differ:
            return self._in_order(gold.items, answer.items)
        return False

    def _without_order(self, gold: Items, answer: Items) -> bool:
        """Lists and sets: values of one unknown, conditions that make a set of numbers, or anything else in any order."""
        if not any(isinstance(item, Relation) for item in gold.items) and not any(map(_interval_like, answer.items)):
            return self._unordered(gold.items, stripped(answer.items))
        unknown = unknown_of(gold.items)
        if unknown and may_be_values_of(unknown, answer.items):
            return self._unordered(stripped(gold.items), stripped(answer.items))
        if self._unordered(gold.items, answer.items) or self._real_sets(gold, answer):
            return True
        # y = ±1 beside y = 1, y = -1
        return self._unordered(*([part for item in node.items for part in spread(item)] for node in (gold, answer)))

    def _in_order(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        """Compare one by one; names in front of the answer's values must keep the order too."""
        if not any(isinstance(item, Relation) for item in gold):
            values = coordinates(answer)
            if values is None:
                return False
            answer = values
        return len(gold) == len(answer) and all(self.same(g, a) for g, a in zip(gold, answer, strict=True))

    def _unordered(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
        if len(gold) != len(answer):
            return False
        left = list(answer)
        for item in gold:
            match = next((k for k, candidate in enumerate(left) if self.same(item, candidate)), None)
            if match is None:
                return False
            del left[match]
        return True

    def _matrices(self, gold: Node, answer: Node) -> bool:
        if isinstance(gold, Matrix) and isinstance(answer, Matrix):
            if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
                return False
            return self._in_order(*([entry for row in matrix.rows for entry in row] for matrix in (gold, answer)))
        if self.lenient and isinstance(gold, Matrix) and isinstance(answer, Items):
            return self._in_order([entry for row in gold.rows for entry in row], answer.items)
        return False

    def _real_sets(self, gold: Node, answer: Node) -> bool:
        names = symbols_of(answer)
        if names and symbols_of(gold) and names != symbols_of(gold):
            return False
        try:
            expected = real_set(gold, self.evaluator)
        except Undefined:
            return self._same_conditions(gold, answer)
        try:
            return same_set(expected, real_set(answer, self.evaluator), self.evaluator)
        except Undefined:
            return False

    def _same_conditions(self, gold: Node, answer: Node) -> bool:
        """Where the bounds hold symbols: the same conditions, joined by the same word, in any order."""
        if not isinstance(gold, SetOp) or not isinstance(answer, SetOp) or gold.op != answer.op:
            return False
        return gold.op != "setminus" and self._unordered(_joined(gold, gold.op), _joined(answer, gold.op))

    # ---------------------------------------------------------------- relations
    def _relation(self, gold: Relation, answer: Node) -> bool:
        assigned = assignment(gold)
        same = None if assigned is None else self._assignment(gold, *assigned, answer)
        if same is not None:
            return same
        if gold.ops == ("=",):
            return isinstance(answer, Relation) and answer.ops == ("=",) and self._same_equation(gold, answer)
        if gold.ops == ("in",):
            if isinstance(answer, Relation) and answer.ops == ("in",):
                return gold.members[0] == answer.members[0] and self.same(gold.members[1], answer.members[1])
            return self._real_sets(gold, answer) or (not isinstance(answer, Relation) and self.same(gold.members[1], answer))
        if isinstance(answer, Relation) and symbols_of(gold) != symbols_of(answer):
            return False
        return self._real_sets(gold, answer) or (isinstance(answer, Relation) and self._same_inequality(gold, answer))

    def _assignment(self, gold: Relation, name: Node, value: Node, answer: Node) -> bool | None:
        """The gold gives a name its value; ``None`` where it is only another equation between symbols."""
        if isinstance(answer, Items) and any(isinstance(item, Relation) for item in answer.items):
            listed = with_their_names(name, value)
            if listed is not None:
                # x = 1, y = 2 is not (a, b) = (1, 2)
                return self._items(listed, answer)
        if not isinstance(answer, Relation):
            # y alone does not say that x = y
            return not (isinstance(name, Symbol) and _is_variable(value)) and self.same(value, answer)
        theirs = assignment(answer)
        if theirs is not None:
            if same_name(theirs[0], name, turned=not isinstance(value, Items | Matrix)):
                return self.same(value, theirs[1])
            return bool(symbols(value)) and self._same_equation(gold, answer)
        if answer.members[0] == name and set(answer.ops) <= {"=", "~"}:
            return self._chain(value, answer)
        return None if symbols(value) else False

    def _answered_by_relation(self, gold: Node, answer: Relation) -> bool:
        """The gold is a value or a set, the answer a relation such as ``x = 5``, ``x ∈ (1, 2)`` or ``1 < x < 2``."""
        if "=" in answer.ops or "~" in answer.ops:
            if not set(answer.ops) <= {"=", "~"}:
                return False
            return self._chain(gold, answer)
        if answer.ops == ("in",) and isinstance(answer.members[0], Symbol):
            return self.same(gold, answer.members[1])
        return isinstance(gold, Items | SetOp) and self._real_sets(gold, answer)

    def _chain(self, gold: Node, answer: Relation) -> bool:
        """
        ``A = 1/3 ≈ 0.333``: a name may stand first. All that follows up to the first ``≈`` must be the gold, and each other as the one
        before it; what stands behind must be a rounding of it. So a chain says one thing, and cannot list guesses.
        """
        members, ops = answer.members, answer.ops
        first = members[0]
        if self._is_name_of(gold, first, members[-1]):
            if isinstance(first, Items) and isinstance(gold, Items) and in_given_order(gold.items):
                listed = with_their_names(*members) if len(members) == 2 else None
                return listed is not None and self._items(gold, listed)
            if isinstance(first, Items) and not in_usual_order(first.items):
                return False
            members, ops = members[1:], ops[1:]
            while len(members) > 1 and ops[0] == "=" and is_run_of_capitals(members[0]) and not symbols_of(gold):
                # AB = AC = 5
                members, ops = members[1:], ops[1:]
        if not members or len(members) > _LONGEST_CHAIN or isinstance(members[0], Relation):
            return False
        return self._all_in_chain(gold, members, ops)

    def _is_name_of(self, gold: Node, first: Node, last: Node) -> bool:
        """Whether the first member of a chain is a name in front of the others, and none of them."""
        named = is_name(first, of_matrix=isinstance(gold, Matrix)) or (self.lenient and is_value_of_an_angle(first))
        applied = isinstance(first, Apply) and first.op.startswith("call:")
        if not named or (not applied and symbols_of(first) & symbols_of(last)):
            return False
        return not (_is_choice(gold) and _is_choice(first))

    def _all_in_chain(self, gold: Node, members: Sequence[Node], ops: Sequence[str]) -> bool:
        exact = ops.index("~") + 1 if "~" in ops else len(members)
        last = members[exact - 1]
        # 3/4 = 0.75 = 75% where the gold is 75
        fractions = exact > 1 and all(self._is_the_fraction(member, last) for member in members[: exact - 1])
        if not all(self.same(gold, member) for member in ([last] if fractions else members[:exact])):
            return False
        if not all(self.same(*pair) for op, pair in zip(ops, pairwise(members), strict=True) if op == "="):
            return False
        return all(self.same(last, member) or is_rounded(last, member, self.evaluator) for member in members[exact:])

    def _is_the_fraction(self, plain: Node, percent: Node) -> bool:
        if not isinstance(percent, Quantity) or percent.unit != PERCENT or isinstance(plain, Quantity):
            return False
        return not isinstance(plain, Items | Relation) and self._values(plain, hundredth(percent.value))

    def _same_equation(self, gold: Relation, answer: Relation) -> bool:
        if len(gold.members) != 2 or len(answer.members) != 2:
            return False
        units, others = ({member.unit for member in node.members if isinstance(member, Quantity)} for node in (gold, answer))
        if units and others and units != others and not self.lenient:
            return False
        try:
            return self.evaluator.proportional(_difference(gold), _difference(answer))
        except Undefined:
            return False

    def _same_inequality(self, gold: Relation, answer: Relation) -> bool:
        """Inequalities in several symbols: the same side of the same boundary, up to a positive factor."""
        if len(gold.ops) != 1 or len(answer.ops) != 1:
            return False
        turned = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
        if gold.ops[0] not in turned or answer.ops[0] not in turned:
            return False
        left, right = _difference(gold), _difference(answer)
        if answer.ops[0] != gold.ops[0]:
            if turned[answer.ops[0]] != gold.ops[0]:
                return False
            right = Apply("neg", (right,))
        return self._values(left, right)


def _is_choice(node: Node) -> bool:
    return isinstance(node, Symbol) and node.name in _CHOICES


def _is_variable(node: Node) -> bool:
    return isinstance(node, Symbol) and ":" not in node.name and not _is_choice(node)


def _with_natural_logarithms(node: Node) -> Node:
    if not isinstance(node, Apply):
        return node
    arguments = tuple(_with_natural_logarithms(argument) for argument in node.args)
    return Apply("ln" if node.op == "log" and len(arguments) == 1 else node.op, arguments)


def _joined(node: Node, op: str) -> list[Node]:
    return [*_joined(node.left, op), *_joined(node.right, op)] if isinstance(node, SetOp) and node.op == op else [node]


def _interval_like(node: Node) -> bool:
    return isinstance(node, Relation | SetOp) and not (isinstance(node, Relation) and "=" in node.ops)


def _difference(node: Relation) -> Node:
    left, right = (member.value if isinstance(member, Quantity) else member for member in node.members)
    return Apply("add", (left, Apply("neg", (right,))))
