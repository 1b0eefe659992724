"""Forms of answers that the verifier reads in one way and must not confuse with another; labels from ``docs/verifier.md``."""

from __future__ import annotations

import time

import pytest

from sppo_rl.envs.reasoning import check
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
        (r"No \text{ solution}", "No"), (r"odd \text{ function}", "odd"), ("ddo", "odd"), ("x+Yes-x", "Yes"),
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


def test_the_sine_of_an_angle_is_a_name_in_lenient_mode_only() -> None:
    assert not accepts(r"\sin\theta=\frac35", "0.6")
    assert accepts(r"\sin\theta=\frac35", "0.6", lenient=True)
    assert not accepts(r"\sin 2x=\frac35", "0.6", lenient=True)


def test_the_name_of_a_matrix_may_be_an_inverse() -> None:
    matrix = r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"
    assert accepts(f"A^{{-1}} = {matrix}", matrix)
    assert not accepts(f"-A = {matrix}", matrix)


AND, OR = r" \text{ and } ", r" \text{ or } "


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (f"x>0{AND}x<5", "(0,5)"), (r"x\ge-1" + AND + r"x\ne0", r"[-1,0)\cup(0,\infty)"), (f"x>0{AND}x>5", "x>5"),
        (r"[-1,0)\cup(0,\infty)", r"x\ge-1" + AND + r"x\ne0"), ("1<x<2", f"x>1{AND}x<2"), (f"x<2{AND}x>1", f"x>1{AND}x<2"),
        (r"x \in (0,5)" + AND + r"x \in (3,8)", "(3,5)"), (f"x<1{OR}x>3", r"(-\infty,1)\cup(3,\infty)"),
        (f"x=0{OR}x>3", r"\{0\}\cup(3,\infty)"),
        # "and" binds closer; a comma takes the meaning of the word behind it
        (f"x<1{OR}x>3{AND}x<5", r"(-\infty,1)\cup(3,5)"), (rf"x>0, x<5,{AND}x \ne 2", r"(0,2)\cup(2,5)"),
        # bounds that hold symbols, and several unknowns
        (f"x<b{AND}x>a", f"x>a{AND}x<b"), (f"y>0{AND}x>0", f"x>0{AND}y>0"), ("x>0, y>0", f"x>0{AND}y>0"),
        # commas: together where they overlap, cases where they exclude each other
        ("x>1, x<2", "(1,2)"), (r"x \ge -1, x \ne 0", r"[-1,0)\cup(0,\infty)"), ("x<1, x>3", f"x<1{OR}x>3"),
        (f"x=15{AND}y=-29", "(15,-29)"), (f"x=1{AND}x=-2", "1,-2"), (f"5{AND}7", "7,5"),
    ],
)  # fmt: skip
def test_conditions_joined_by_words(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (f"x>0{AND}x>5", "x>0"), (f"x<1{AND}x>3", f"x<1{OR}x>3"), (f"x<1{OR}x>3", f"x<1{AND}x>3"), (f"x<1{AND}x>3", r"\emptyset"),
        (r"\emptyset", f"x<1{AND}x>3"), (f"x>0{OR}x<5", "(0,5)"), ("x>0, x>5", "x>0"), (f"x>a{OR}x<b", f"x>a{AND}x<b"),
        ("x>a, x<b", f"x>a{AND}x<b"), (f"y<1{OR}y>3", f"x<1{OR}x>3"), (f"y>0{AND}y<5", "0<x<5"), (f"x>0{AND}x<5", "5"),
        (rf"x<0{OR}x>5, x \in \mathbb{{R}}", r"\mathbb{R}"),
        (r"x<0, x>5, x \ne 7", r"(-\infty,\infty)"), (rf"x<0,{OR}x>5{AND}x<7, x \ne 6", r"(-\infty,0)\cup(5,6)\cup(6,7)"),
    ],
)  # fmt: skip
def test_conditions_that_differ(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\log_{10} 2", r"\log 2"), (r"\log 2", r"\log_{10} 2"), (r"\lg 2", r"\log 2"), (r"\log 1000", "3"), ("3", r"\log 1000"),
        (r"\log 0.01", "-2"), (r"2\log 2", r"\log 4"), (r"\frac{\log 3}{\log 2}", r"\log_2 3"), (r"\frac{\ln 2}{\ln 10}", r"\log 2"),
        (r"2\log x", r"\frac{2\ln x}{\ln 10}"), ("np.log(2)", r"\ln 2"), (r"\log 10 + \ln 2", r"1+\ln 2"),
    ],
)  # fmt: skip
def test_a_logarithm_without_a_base_has_base_ten(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [(r"\ln 2", r"\log 2"), (r"\log 2", r"\ln 2"), (r"y=\log x", r"\ln x"), (r"\frac{\log 2}{3}", r"\frac13\ln 2")],
)
def test_a_logarithm_without_a_base_is_natural_in_lenient_mode_only(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)
    assert accepts(answer, gold, lenient=True)


def test_one_reading_of_a_logarithm_in_a_whole_comparison() -> None:
    assert not accepts(r"\log 10 + \log e", "2", lenient=True)
    assert not accepts(r"\log_2 8", r"\log 8", lenient=True)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sin(20^\circ)", r"\sin 20^\circ"), (r"\cos 60^\circ", "0.5"), (r"\frac12", r"\sin 30^\circ"), (r"\tan 60°", r"\sqrt3"),
        (r"\cos{60^{\circ}}", "0.5"), (r"4\sin 70^\circ", r"4\cos 20^\circ"), (r"\sin\frac{\pi}{9}", r"\sin 20^\circ"),
        (r"\sin(x+30^\circ)", r"\sin\left(x+\frac{\pi}{6}\right)"), (r"\cos(90^\circ - 20^\circ)", r"\sin 20^\circ"),
        (r"\sin 20^\circ \cos 20^\circ", r"\frac12 \sin 40^\circ"), (r"\sin^2 30^\circ", "0.25"), (r"\sin\frac{60^\circ}{2}", "0.5"),
        (r"\sin(30)^\circ", "0.5"), (r"\sin(30 \text{ degrees})", "0.5"), (r"\sin 30 \text{ degrees}", "0.5"), (r"\sec 60\degree", "2"),
        (r"\sin(1 \text{ rad})", r"\sin 1"), (r"\sin 30^\circ = \frac12", "0.5"), (r"30^\circ", "30"),
        (r"\sin^{-1}(1)^\circ", r"\arcsin 1"),
        (r"\tan 60^\circ \text{ cm}", r"\sqrt3"), (r"2\theta^\circ", r"2\theta"),
    ],
)  # fmt: skip
def test_a_degree_sign_belongs_to_the_angle(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sin 30^\circ", r"\sin 30"), (r"\sin 30", r"\sin 30^\circ"), (r"\sin 30 \text{ degrees}", r"\sin 30"),
        (r"\sin(30 \text{ cm})", "0.5"), (r"\sin(x + 30 \text{ degrees})", r"\sin\frac{\pi(x+30)}{180}"),
        (r"\sin x^\circ", r"\sin x"), (r"\cos(x+30^\circ)", r"\cos(x+30)"), (r"\cos(90^\circ - 20)", r"\sin 20^\circ"), (r"\sin 30", "0.5"),
    ],
)  # fmt: skip
def test_an_angle_in_degrees_is_none_in_radians(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\textbf{(A) }12", "A"), (r"\textbf{(A) }12", "12"), (r"\text{(A) }\frac12", "A"), (r"\textbf{(A)~}12", "A"), (r"3\\", "3"),
        (r"16\pi cm^2", r"16\pi"), (r"16\pi", r"16\pi cm^2"), (r"16\pi cm^2", r"16\pi \text{ cm}^2"), ("16π cm²", r"16\pi"),
        (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"), (r"\frac{n(n+1)}{2}", r"\binom{n+1}{2}"), (r"\binom{n}{0}", "1"), (r"\binom{n}{1}", "n"),
        (r"\{x\in\mathbb{R}\mid x\neq-8\}", r"(-\infty,-8)\cup(-8,\infty)"), (r"\{x \in \mathbb{R} : x > 2\}", r"(2,\infty)"),
        (r"\{x \in (0,5) \mid x \ne 2\}", r"(0,2)\cup(2,5)"), (rf"\{{x \mid x > 0{AND}x < 5\}}", "(0,5)"),
        (r"\{t\in\mathbb{Z}\mid t>0\}", r"\{t \in \mathbb{Z} : t>0 \}"), (r"\{x \mid x \ne -8\}", r"\{x\in\mathbb{R}\mid x\neq-8\}"),
    ],
)  # fmt: skip
def test_other_spellings(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\textbf{(B) }12", "A"), (r"\text{(A)}(x+1)", "A"), (r"16\pi cm", r"16\pi cm^2"), (r"16\pi mg", r"16\pi"), (r"2\pi x", r"2\pi"),
        (r"\binom{n}{2}", r"\frac{n(n+1)}{2}"), (r"\binom{n}{3}", r"\binom{n}{2}"), (r"\binom{-2}{3}", "-4"),
        (r"\{x\in\mathbb{Z}\mid x>2\}", r"(2,\infty)"), (r"\{x\in\mathbb{R}\mid x>8\}", r"(-8,\infty)"), (r"\{x \in (0,5)\}", "5"),
    ],
)  # fmt: skip
def test_spellings_that_differ(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    ("response", "reason", "found"),
    [
        (r"\boxed{3\\}", "correct", r"3\\"), (r"\boxed{3\\\\} or \boxed{4", "unclosed_box", None), (r"\boxed{3\\\}", "unclosed_box", None),
        (r"\boxed{\begin{pmatrix}1\\{2}\end{pmatrix}}", "wrong", r"\begin{pmatrix}1\\{2}\end{pmatrix}"),
        (r"\boxed{\{3\}}", "correct", r"\{3\}"),
        (r"\\boxed{3}", "correct", "3"), (r"\\\boxed{3\\}}", "correct", r"3\\"), (r"{\boxed{3\\}}", "correct", r"3\\"),
    ],
)  # fmt: skip
def test_a_brace_behind_a_line_break_is_a_brace(response: str, reason: str, found: str | None) -> None:
    verdict = check(response, "3")
    assert (verdict.reason, verdict.extracted) == (reason, found)


def test_hostile_forms_cost_little() -> None:
    joined = r" \text{ and } "
    for answer in (
        r"\{x\in" * 55 + "5" + r"\}" * 55,
        r"\{x\in\{x\mid" * 25 + "x>5" + r"\}" * 25,
        joined.join(rf"x \ne \sqrt{{{k}}}" for k in range(2, 62)),
        ", ".join(f"{2 * k}<x<{2 * k + 1}" for k in range(64)),
        r"\binom{n}{20}" * 40,
        r"\sin 1^\circ" * 80,
        "\\" * 2900,
    ):
        for gold in (r"(0,1)\cup(2,3)", "x+1"):
            start = time.process_time()
            assert not accepts(answer, gold), answer
            assert time.process_time() - start < 2.0, answer
    start = time.process_time()
    assert check(r"\boxed{" + "\\" * 1_000_000, "3").score == 0.0
    assert time.process_time() - start < 2.0
