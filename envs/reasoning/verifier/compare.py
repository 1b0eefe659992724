"""Decides whether two answers are the same, form by form. The table in ``docs/verifier.md`` says why each form is treated so."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from .evaluate import Evaluator
from .names import assignment, coordinates, is_name, is_value_of_an_angle, stripped
from .numerics import Undefined, symbols, symbols_of
from .realsets import infinite_sign, real_set, same_set
from .tree import Apply, BaseNumber, Items, Labelled, Matrix, Node, Number, Quantity, Relation, SetOp, Symbol

PERCENT = (("percent", 1),)
_CHOICES = frozenset("ABCDEF")
_UNORDERED = ("list", "set")


class Comparison:
    """
    Compares trees of answers.

    :param lenient: also accept what strict mode leaves open: an omitted base, natural logarithms written ``\\log``, a value rounded to
        the gold's digits, another unit, brackets of another kind around a tuple or vector
    """

    def __init__(self, lenient: bool = False):
        self.lenient = lenient
        self.evaluator = Evaluator()

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
        gold, answer = expand_signs(gold), expand_signs(answer)
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
        step = Fraction(1)
        while (gold.value / step).denominator != 1:
            step /= 10
            if step.denominator > 10**12:
                return False
        distance = Apply("abs", (Apply("add", (Number(sign * gold.value), Apply("neg", (answer,)))),))
        return not self.evaluator.below(step / 2, self.evaluator.real(distance))

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
        hundredth = Apply("mul", (percent, Number(Fraction(1, 100))))
        if self._values(plain, hundredth):
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
        if gold.kind in _UNORDERED and answer.kind in _UNORDERED:
            if any(isinstance(item, Relation) for item in gold.items) or any(_interval_like(item) for item in answer.items):
                return self._unordered(gold.items, answer.items) or self._real_sets(gold, answer)
            return self._unordered(gold.items, stripped(answer.items))
        if answer.kind == "list" and all(_interval_like(item) for item in answer.items):
            return self._real_sets(gold, answer)
        if gold.kind == "list" and answer.kind == "()":
            return self._in_order(gold.items, answer.items)
        if gold.kind == "()" and answer.kind == "list":
            return self._in_order(gold.items, coordinates(answer.items))
        if gold.kind == answer.kind or (self.lenient and "ratio" not in (gold.kind, answer.kind) and len(gold.items) > 2):
            return self._in_order(gold.items, answer.items)
        return False

    def _in_order(self, gold: Sequence[Node], answer: Sequence[Node]) -> bool:
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
            return len(gold.rows) == len(answer.rows) and all(
                self._in_order(g, a) for g, a in zip(gold.rows, answer.rows, strict=True)
            )
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
        if assigned is not None:
            name, value = assigned
            if not isinstance(answer, Relation):
                return self.same(value, answer)
            theirs = assignment(answer)
            if theirs is not None:
                if theirs[0] == name:
                    return self.same(value, theirs[1])
                return bool(symbols(value)) and self._same_equation(gold, answer)
            if not symbols(value):
                return False
        if gold.ops == ("=",):
            return isinstance(answer, Relation) and answer.ops == ("=",) and self._same_equation(gold, answer)
        if gold.ops == ("in",):
            if isinstance(answer, Relation) and answer.ops == ("in",):
                return gold.members[0] == answer.members[0] and self.same(gold.members[1], answer.members[1])
            return self._real_sets(gold, answer) or (not isinstance(answer, Relation) and self.same(gold.members[1], answer))
        if isinstance(answer, Relation) and symbols_of(gold) != symbols_of(answer):
            return False
        return self._real_sets(gold, answer) or (isinstance(answer, Relation) and self._same_inequality(gold, answer))

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
        """``A = 1/3 ≈ 0.333``: a name may stand first; the members behind it must agree, and one of them must be the gold."""
        members = list(answer.members)
        ops = list(answer.ops)
        applied = isinstance(members[0], Apply) and members[0].op.startswith("call:")
        named = is_name(members[0], of_matrix=isinstance(gold, Matrix)) or (self.lenient and is_value_of_an_angle(members[0]))
        named = named and (applied or not (symbols_of(members[0]) & symbols_of(members[-1])))
        if named and not (_is_choice(gold) and _is_choice(members[0])):
            members, ops = members[1:], ops[1:]
        if isinstance(members[0], Relation) or not members:
            return False
        for k, op in enumerate(ops):
            if op == "=" and not self.same(members[k], members[k + 1]):
                return False
            if op == "~" and not self._near(members[k], members[k + 1]):
                return False
        return any(self.same(gold, member) for member in members)

    def _near(self, left: Node, right: Node) -> bool:
        """Within one percent, as a rounded value is."""
        try:
            left, right = (node.value if isinstance(node, Quantity) else node for node in (left, right))
            return self.evaluator.close(self.evaluator.real(left), self.evaluator.real(right), digits=2)
        except Undefined:
            return False

    def _same_equation(self, gold: Relation, answer: Relation) -> bool:
        if len(gold.members) != 2 or len(answer.members) != 2:
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


def expand_signs(node: Node) -> Node:
    """
    Replace ``a ± b`` by the list of its two values; a list or set that holds such values takes them in.

    :param node: a tree
    """
    if isinstance(node, Apply) and _has_sign(node):
        return Items("list", (_with_sign(node, True), _with_sign(node, False)))
    if isinstance(node, Items) and node.kind in _UNORDERED:
        items: list[Node] = []
        for item in node.items:
            expanded = expand_signs(item)
            items += expanded.items if isinstance(expanded, Items) and expanded.kind == "list" else [expanded]
        return Items(node.kind, tuple(items))
    if isinstance(node, Relation) and any(_has_sign(member) for member in node.members):
        return Relation(node.ops, tuple(expand_signs(member) for member in node.members))
    return node


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


def _is_choice(node: Node) -> bool:
    return isinstance(node, Symbol) and node.name in _CHOICES


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
