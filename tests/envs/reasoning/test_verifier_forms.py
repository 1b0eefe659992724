"""Forms of answers that the verifier reads in one way and must not confuse with another; labels from ``docs/verifier.md``."""

from __future__ import annotations

import pytest

from sppo_rl.envs.reasoning.verifier import compare_answers


def accepts(answer: str, gold: str, lenient: bool = False) -> bool:
    return compare_answers(answer, gold, lenient)[0]


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\text{Yes}", "Yes"), (r"\text{No}", "No"), ("yes", "Yes"), ("NO", "No"), (r"\text{odd}", "odd"), ("Odd", "odd"),
        (r"\text{New York}", "New York"), ("new york", "New York"), (r"\text{Bob}", "Bob"), (r"\mathrm{red}", "red"),
        (r"\text{SSS}", "SSS"), (r"\textbf{ABC}", "ABC"), (r"\text{I and II}", "I and II"), (r"\text{I, II}", "I, II"),
        ("ba", "ab"), ("hgm", "mgh"),
    ],
)  # fmt: skip
def test_short_words_without_markup(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\text{No}", "Yes"), (r"\text{not odd}", "odd"), (r"\text{SAS}", "SSS"), ("BAC", r"\text{ABC}"), (r"\text{York}", "New York"),
        # letters that may be a product keep their case, their primes and an "a" before them
        ("AB", "ab"), (r"\text{Mgh}", "mgh"), ("Ab", "ab"), ("AB'", "AB"), ("a bcd", "bcd"), ("abd", "abc"),
    ],
)  # fmt: skip
def test_short_words_that_differ(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    "name",
    ["x", "AB", "x+y", "x-y", "|z|", "r^2", "AC^2", r"f(2)", r"\frac{dy}{dx}", r"\text{Area}", r"\angle ABC", "S_{10}", "PE"],
)
def test_a_name_in_front_is_decoration(name: str) -> None:
    assert accepts(f"{name}=5", "5")


@pytest.mark.parametrize(
    "left",
    [
        "-x", r"\sqrt{x}", r"\sin x", r"\ln x", "x/y", r"\frac{x}{2}", r"\frac{x}{y}", "x^{-1}", r"\frac1x", "x^{1/2}", "2x", "x!", "-x+y",
        r"\lfloor x \rfloor", r"\binom{n}{k}", r"-f(x)", r"x \cdot (-y)", r"\sqrt[3]{x}", r"\pi x", "A^{-1}",
    ],
)  # fmt: skip
def test_an_equation_left_to_solve_is_no_name(left: str) -> None:
    assert not accepts(f"{left}=5", "5")


def test_the_name_of_a_matrix_may_be_an_inverse() -> None:
    matrix = r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"
    assert accepts(f"A^{{-1}} = {matrix}", matrix)
    assert not accepts(f"-A = {matrix}", matrix)
