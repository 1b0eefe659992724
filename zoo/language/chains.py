"""Sums written out: the problems of the small language task, and the ways in which a demonstrator answers them.

The problems are reasoning_gym's ``chain_sum`` (3 to 6 terms of 1 or 2 digits), posed as the bare expression, ``38+12-65=``, and judged by
reasoning_gym's own verifier. A *chain* adds one term at a time and each sum digit by digit, lowest first, carries and borrows written out::

    38+12:8+2=10,3+1+1=5>50;50-65:65-50:5-0=5,6-5=1>-15;\\boxed{-15}

A *long* chain is written out four times before the answer, each time behind its number (``1:38+12:…;2:38+12:…;``): the same problems and
the same steps in four times the length. A *direct* answer is ``\\boxed{-15}`` alone: right as well, but hard to learn to give. An
expression is held out, or it is not: its text decides (:func:`is_held_out`), so training and test problems are apart whatever the seeds.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from typing import Any

import numpy as np

from sppo_rl.envs.reasoning import Problem, from_reasoning_gym

TASK = "chain_sum"
TERMS, DIGITS = (3, 6), (1, 2)
MAX_PROMPT_TOKENS, MAX_NEW_TOKENS = 18, 224
"""Characters of the longest expression, and a limit for responses above the longest chain."""
LONG_PASSES, LONG_MAX_NEW_TOKENS = 4, 832
"""How often a long chain is written out, and a limit for responses above the longest one."""
CHARACTERS = "0123456789+-=:,>;\\boxed{}"
"""Every character of prompts and responses."""
_HELD_OUT = 8
"""One expression in so many is held out."""


def is_held_out(expression: str) -> bool:
    """
    Tell whether a problem belongs to the held-out ones.

    :param expression: such as ``"38+12-65="``
    """
    return zlib.crc32(expression.encode()) % _HELD_OUT == 0


def chain_problems(size: int, seed: int = 0, held_out: bool = False, min_digits: int = DIGITS[0]) -> list[Problem]:
    """
    Make problems.

    :param size: how many
    :param seed: of reasoning_gym's generator; sets of different seeds may share problems, training and held-out problems never
    :param held_out: whether to make problems to train on or to test on
    :param min_digits: of every term; 2 makes the harder half alone, of which a beginner solves one in sixteen
    :return: with the verifier of reasoning_gym; equal arguments give equal problems
    :raises ValueError: if ``size`` is not positive, ``seed`` is negative, or no term has so many digits
    """
    if size < 1 or seed < 0:
        raise ValueError(f"Problems need a size of at least 1 and a seed of at least 0, got {size} and {seed}.")
    if not DIGITS[0] <= min_digits <= DIGITS[1]:
        raise ValueError(f"min_digits must be {DIGITS[0]} or {DIGITS[1]}, got {min_digits}.")
    share = 1.0 / _HELD_OUT if held_out else 1.0 - 1.0 / _HELD_OUT
    # reasoning_gym seeds its k-th problem with seed + k: sets of neighbouring seeds would be the same but for one problem
    first = seed * 100_000_000
    found: list[Problem] = []
    drawn = 0
    while len(found) < size:
        more = int((size - len(found)) / share) + 64
        batch = from_reasoning_gym(
            TASK, more, first + drawn, instruction="",
            min_terms=TERMS[0], max_terms=TERMS[1], min_digits=min_digits, max_digits=DIGITS[1],
        )  # fmt: skip
        for problem in batch:
            expression = _expression(problem)
            if is_held_out(expression) == held_out:
                # one scorer, so one verifying process, for all of them; this task's verdict depends on the entry alone
                scorer = found[0].scorer if found else problem.scorer
                found.append(dataclasses.replace(problem, prompt=expression, scorer=scorer))
        drawn += more
    return found[:size]


def demonstrate(problem: Problem, rng: np.random.Generator, direct: float, passes: int = 1) -> str:
    """
    Answer a problem, rightly.

    :param problem: one of :func:`chain_problems`
    :param rng: chooses the way
    :param direct: chance of a direct answer instead of a chain
    :param passes: how often a chain is written out
    """
    assert isinstance(problem.prompt, str)
    return f"\\boxed{{{problem.answer}}}" if rng.random() < direct else chain(problem.prompt, passes)


def chain(expression: str, passes: int = 1) -> str:
    """
    Write a sum out; see the top of the module.

    :param expression: such as ``"38+12-65="``: terms without a sign of their own
    :param passes: how often
    :raises ValueError: if it is something else
    """
    if not re.fullmatch(r"\d+([+-]\d+)+=", expression):
        raise ValueError(f"A chain is written for an expression such as '38+12-65=', got {expression!r}.")
    total, *terms = (int(number) for number in re.findall(r"\d+", expression))
    text = ""
    for sign, term in zip(re.findall(r"[+-]", expression), terms, strict=True):
        step, total = _step(total, sign, term)
        text += step
    written = text if passes == 1 else "".join(f"{number}:{text}" for number in range(1, passes + 1))
    return f"{written}\\boxed{{{total}}}"


def is_chain(response: str) -> bool:
    """
    Tell a chain from a direct answer: something is worked out before the box.

    :param response: as text
    """
    return not response.startswith("\\boxed")


def _expression(problem: Problem) -> str:
    entry: dict[str, Any] = problem.columns["entry"]
    return entry["metadata"]["expression"].replace(" ", "") + "="


def _step(total: int, sign: str, term: int) -> tuple[str, int]:
    """One term added to the running total: the text, and the new total."""
    signed = term if sign == "+" else -term
    result = total + signed
    large, small = max(abs(total), term), min(abs(total), term)
    if (total < 0) == (signed < 0):
        # the digits of the total come first, whichever is the larger
        sum_text, columns = f"{abs(total)}+{term}", _add(abs(total), term)
    else:
        sum_text, columns = f"{large}-{small}", _subtract(large, small)
    asked = f"{total}{sign}{term}"
    text = f"{asked}:" if sum_text == asked else f"{asked}:{sum_text}:"
    return f"{text}{','.join(columns)}>{result};", result


def _add(one: int, other: int) -> list[str]:
    """``8+2=10``, ``3+1+1=5``: the second column takes the carry of the first."""
    columns, carry = [], 0
    for a, b in _columns(one, other):
        value = a + b + carry
        columns.append(f"{a}+{b}{'+1' if carry else ''}={value}")
        carry = value // 10
    return columns


def _subtract(large: int, small: int) -> list[str]:
    """``15-7=8``, ``6-0-1=5``: a column that borrows writes the ten it got."""
    columns, borrow = [], 0
    for a, b in _columns(large, small):
        borrows = a - b - borrow < 0
        value = a - b - borrow + (10 if borrows else 0)
        columns.append(f"{'1' if borrows else ''}{a}-{b}{'-1' if borrow else ''}={value}")
        borrow = int(borrows)
    return columns


def _columns(one: int, other: int) -> list[tuple[int, int]]:
    """Digits in pairs, lowest first; the shorter number has zeros in front."""
    width = max(len(str(one)), len(str(other)))
    return [(int(a), int(b)) for a, b in zip(str(one).zfill(width)[::-1], str(other).zfill(width)[::-1], strict=True)]
