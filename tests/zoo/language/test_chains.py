"""Sums written out: every step against Python's arithmetic, every demonstration against reasoning_gym's own verifier."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("reasoning_gym", reason="needs the [llm] extra")

import reasoning_gym

from sppo_rl.envs.reasoning import Problem
from sppo_rl.zoo.language.chains import (
    CHARACTERS,
    DIGITS,
    LONG_MAX_NEW_TOKENS,
    LONG_PASSES,
    MAX_NEW_TOKENS,
    MAX_PROMPT_TOKENS,
    TERMS,
    chain,
    chain_problems,
    demonstrate,
    is_chain,
    is_held_out,
)


def check_chain(expression: str) -> dict[str, int]:
    """Hold every equation of a chain to Python; returns how often columns carried, borrowed, and totals were negative."""
    text = chain(expression)
    first, *written = re.findall(r"[+-]?\d+", expression)
    total = int(first)
    *steps, box = text.split(";")
    seen = {"carry": 0, "borrow": 0, "negative": 0}
    for step, term in zip(steps, written, strict=True):
        parts, result = step.split(">")
        asked, *rewritten, columns = parts.split(":")
        assert asked == f"{total}{term}"
        assert len(rewritten) <= 1
        sum_text = rewritten[0] if rewritten else asked
        # written anew it is a sum of two positive numbers, or a difference without a negative result, of the same size
        assert re.fullmatch(r"\d+[+-]\d+", sum_text)
        assert eval(sum_text) == abs(total + int(term))
        total += int(term)
        assert int(result) == total
        digits = ""
        for column in columns.split(","):
            left, value = column.split("=")
            assert eval(left) == int(value)
            assert 0 <= int(value) < 20
            digits = str(int(value) % 10) + digits
            seen["carry"] += left.endswith("+1") and left.count("+") == 2
            seen["borrow"] += left.endswith("-1") and left.count("-") == 2
        # the digits read off the columns, and a last carry, are the result
        last_carry = int(columns.rsplit("=", 1)[1]) // 10
        assert int(f"{last_carry}{digits}") == abs(total)
        seen["negative"] += total < 0
    assert box == f"\\boxed{{{eval(expression.rstrip('='))}}}"
    return seen


def random_expressions(count: int) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for _ in range(count):
        terms = [int(rng.integers(10 ** int(rng.integers(1, 4)))) for _ in range(rng.integers(2, 8))]
        signs = rng.choice(["+", "-"], size=len(terms) - 1)
        yield str(terms[0]) + "".join(f"{sign}{term}" for sign, term in zip(signs, terms[1:], strict=True)) + "="


def test_every_step_is_right() -> None:
    seen = {"carry": 0, "borrow": 0, "negative": 0}
    for expression in random_expressions(2000):
        seen = {name: seen[name] + count for name, count in check_chain(expression).items()}
    # each of the hard cases was there, often
    assert min(seen.values()) > 300, seen


def test_known_chains() -> None:
    assert chain("38+12-65=") == "38+12:8+2=10,3+1+1=5>50;50-65:65-50:5-0=5,6-5=1>-15;\\boxed{-15}"
    assert chain("5-13+9=") == "5-13:13-5:13-5=8,1-0-1=0>-8;-8+9:9-8:9-8=1>1;\\boxed{1}"
    assert chain("99+1=") == "99+1:9+1=10,9+0+1=10>100;\\boxed{100}"
    assert chain("0-7-0=") == "0-7:7-0:7-0=7>-7;-7-0:7-0:7-0=7>-7;\\boxed{-7}"


def test_a_long_chain_is_the_chain_four_times(problems: list[Problem]) -> None:
    steps = "38+12:8+2=10,3+1+1=5>50;50-65:65-50:5-0=5,6-5=1>-15;"
    assert chain("38+12-65=", LONG_PASSES) == f"1:{steps}2:{steps}3:{steps}4:{steps}\\boxed{{-15}}"
    lengths = [len(chain(str(problem.prompt), LONG_PASSES)) for problem in problems]
    assert 300 < np.mean(lengths) < 500
    assert max(lengths) < LONG_MAX_NEW_TOKENS
    rng = np.random.default_rng(0)
    assert demonstrate(problems[0], rng, 0.0, LONG_PASSES) == chain(str(problems[0].prompt), LONG_PASSES)


@pytest.mark.parametrize("expression", ["38+12", "-3+4=", "3*4=", "3++4=", "=", "3 + 4 =", "7="])
def test_other_expressions_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(expression))):
        chain(expression)


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return chain_problems(400, seed=5)


def test_problems_are_what_they_are_said_to_be(problems: list[Problem]) -> None:
    assert len(problems) == 400
    terms, digits = set(), set()
    for problem in problems:
        prompt = problem.prompt
        assert isinstance(prompt, str)
        assert int(problem.answer) == eval(prompt.rstrip("="))
        assert len(prompt) <= MAX_PROMPT_TOKENS
        numbers = re.findall(r"\d+", prompt)
        terms.add(len(numbers))
        digits |= {len(number) for number in numbers}
        assert set(prompt) <= set(CHARACTERS)
    assert (min(terms), max(terms)) == TERMS
    assert (min(digits), max(digits)) == DIGITS


def test_the_harder_half_has_terms_of_two_digits_only() -> None:
    hard = chain_problems(200, seed=5, min_digits=2)
    assert {len(number) for problem in hard for number in re.findall(r"\d+", str(problem.prompt))} == {2}
    assert {len(re.findall(r"\d+", str(problem.prompt))) for problem in hard} == {3, 4, 5, 6}
    assert all(int(problem.answer) == eval(str(problem.prompt).rstrip("=")) for problem in hard)
    assert not any(is_held_out(str(problem.prompt)) for problem in hard)
    with pytest.raises(ValueError, match=r"min_digits must be 1 or 2, got 3"):
        chain_problems(10, min_digits=3)


def test_equal_seeds_give_equal_problems_and_others_do_not(problems: list[Problem]) -> None:
    again, other = chain_problems(400, seed=5), chain_problems(400, seed=6)
    assert [problem.prompt for problem in again] == [problem.prompt for problem in problems]
    shared = {problem.prompt for problem in other} & {problem.prompt for problem in problems}
    assert len(shared) < 40
    # a longer set begins with a shorter one
    assert [problem.prompt for problem in chain_problems(50, seed=5)] == [problem.prompt for problem in problems[:50]]


def test_held_out_problems_are_never_trained_on(problems: list[Problem]) -> None:
    # the same seed, so the same problems are drawn before they are told apart
    held_out = chain_problems(400, seed=5, held_out=True)
    trained = {problem.prompt for problem in problems}
    assert trained.isdisjoint(problem.prompt for problem in held_out)
    assert all(is_held_out(str(problem.prompt)) for problem in held_out)
    assert not any(map(is_held_out, map(str, trained)))
    drawn = reasoning_gym.create_dataset(
        "chain_sum", size=4000, seed=0, min_terms=TERMS[0], max_terms=TERMS[1], min_digits=DIGITS[0], max_digits=DIGITS[1]
    )
    share = np.mean([is_held_out(entry["metadata"]["expression"].replace(" ", "") + "=") for entry in drawn])
    assert abs(share - 1 / 8) < 0.03


@pytest.mark.parametrize("direct", [0.0, 1.0, 0.5])
def test_the_verifier_accepts_every_demonstration(direct: float, problems: list[Problem]) -> None:
    """reasoning_gym's own verifier, called here without the worker in between."""
    rng = np.random.default_rng(0)
    responses = [demonstrate(problem, rng, direct) for problem in problems]
    task = reasoning_gym.create_dataset("chain_sum", size=1, seed=0)
    for problem, response in zip(problems, responses, strict=True):
        boxed = re.search(r"\\boxed\{(-?\d+)\}$", response)
        assert boxed is not None
        assert task.score_answer(boxed.group(1), problem.columns["entry"]) == 1.0
        assert set(response) <= set(CHARACTERS)
        assert len(response) < MAX_NEW_TOKENS
    chains = np.mean([is_chain(response) for response in responses])
    assert chains == pytest.approx(1 - direct, abs=0.1)


def test_the_verifier_in_its_worker_tells_right_from_wrong(problems: list[Problem]) -> None:
    some = problems[:20]
    scorer = some[0].scorer
    assert scorer is not None
    assert all(problem.scorer is scorer for problem in problems), "one worker for all"
    right = [demonstrate(problem, np.random.default_rng(0), 0.0) for problem in some]
    wrong = [f"\\boxed{{{int(problem.answer) + 1}}}" for problem in some]
    try:
        assert [verdict.score for verdict in scorer.score(some, right, [[]] * 20)] == [1.0] * 20
        assert max(verdict.score for verdict in scorer.score(some, wrong, [[]] * 20)) < 1.0
        assert scorer.score(some[:1], ["12+3:"], [[]])[0].score == 0.0
    finally:
        scorer.close()


@pytest.mark.parametrize(("size", "seed"), [(0, 0), (5, -1)])
def test_numbers_out_of_range_are_named(size: int, seed: int) -> None:
    with pytest.raises(ValueError, match=f"got {size} and {seed}"):
        chain_problems(size, seed)
