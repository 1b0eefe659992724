"""Answers without a value, factors without a sign, names, alternatives and chains: wrong ones beside right ones of the same kind."""

from __future__ import annotations

import time

import pytest

from sppo_rl.envs.reasoning.verifier import compare_answers


def accepts(answer: str, gold: str, lenient: bool = False) -> bool:
    return compare_answers(answer, gold, lenient)[0]


POLES = [
    r"0\tan^2 90^\circ", r"\sec^2 90^\circ-\tan^2 90^\circ", r"\tan^2 90^\circ-\tan^2 90^\circ", r"\cot^2\pi-\csc^2\pi", r"0\csc^2\pi",
    r"0(1+\tan^2\frac\pi2)", r"7+0(\sin\pi)^{-2}", r"\lfloor 0\tan^2 90^\circ\rfloor",
]  # fmt: skip


@pytest.mark.parametrize("lenient", [False, True])
@pytest.mark.parametrize("pole", POLES)
def test_an_answer_at_a_pole_is_right_for_no_gold(pole: str, lenient: bool) -> None:
    golds = (
        "0",
        "1",
        "7",
        "204",
        r"\frac12",
        r"2\sqrt5",
        "20.39",
        r"336^\circ",
        "x+1",
        "2^n-1",
        r"\lfloor\frac n2\rfloor",
        "y=2x",
    )
    assert [gold for gold in golds if accepts(pole, gold, lenient)] == []
    assert not accepts(f"({pole},{pole})", "(15,-29)", lenient)
    assert not accepts(f"{pole},{pole}", "1,2", lenient)
    assert not accepts(rf"\{{{pole},{pole}\}}", r"\{1,2\}", lenient)
    assert not accepts(rf"\begin{{pmatrix}}{pole}\\{pole}\end{{pmatrix}}", r"\begin{pmatrix}1\\2\end{pmatrix}", lenient)
    assert not accepts(rf"({pole},\infty)", r"(5,\infty)", lenient)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sin180^\circ\tan90^\circ", "2"), (r"\tan90^\circ\cot90^\circ", "1"), (r"(\tan 90^\circ)^{\sin\pi}", "1"),
        (r"(1,\sin180^\circ\tan90^\circ)", "(1,2)"), (r"[1,\sin180^\circ\tan90^\circ)", "[1,2)"), (r"x<\sin180^\circ\tan90^\circ", "x<2"),
        # a pole at some of the points of comparison only
        (r"\lceil\frac n2\rceil+0\tan(90n^\circ)", r"\lfloor\frac n2\rfloor"),
        (r"\lceil\frac n2\rceil+0\tan^2\frac{\pi n}2", r"\lfloor\frac n2\rfloor"), (r"y=3x+0\tan^2 90^\circ", "y=2x"),
    ],
)  # fmt: skip
def test_poles_that_cancel(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sin\pi", "0"), (r"\tan\pi", "0"), (r"1+\cos\pi", "0"), (r"\tan 45^\circ", "1"), (r"\sin^2 1+\cos^2 1", "1"),
        (r"2^{\sin\pi}", "1"), (r"(e^{1000},\infty)", r"(e\cdot e^{999},\infty)"), (r"\tan x\cot x", "1"),
    ],
)  # fmt: skip
def test_values_near_the_poles(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


def _nested(argument: str, times: int) -> str:
    return "f(" * times + argument + ")" * times


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"5+0\cdot(" + "+".join(["f(f(x,20000))"] * 40) + r")+0\cdot\pi\cdot10^{5800}", "5"),
        (rf"n+0\cdot\lfloor n\rfloor {_nested('n', 10)}\cdot\pi\cdot10^{{2500}}", "n"),
        (r"5+0\cdot(" + "+".join([r"(\frac{3+4i}5)^{20000}"] * 15) + r")+0\cdot\pi\cdot10^{5800}", "5"),
    ],
)  # fmt: skip
def test_unknown_functions_and_complex_powers_are_paid_for(answer: str, gold: str) -> None:
    start = time.process_time()
    compare_answers(answer, gold)
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\frac34=0.75=75\%", "75"), (r"\frac{15}{20}=\frac34=75\%", "75"), (r"\frac5{10}=0.5=50\%", "50"),
        (r"P=\frac5{10}=0.5=50\%", "50"), (r"12\pi\approx12(3.14)=37.68", r"12\pi"),
        (r"12\pi\approx12\times3.1416=37.6992", r"12\pi"), (r"12\pi\approx12\cdot\frac{22}7", r"12\pi"), (r"12\pi\approx37.7", r"12\pi"),
        (r"\frac13\approx0.333=33.3\%", r"\frac13"), (r"\frac13\approx33.3\%", r"\frac13"), (r"\frac16\approx0.17", r"\frac16"),
        ("AB=AC=5", "5"), (r"AB=AC=\sqrt{25}=5", "5"), (r"180^\circ-120^\circ=60^\circ", "60"), (r"180^\circ-120^\circ", r"60^\circ"),
        ("5!=120", "120"), ("4!=24", "24"), ("(5-1)!=24", "24"), (r"4\cdot3!=24", "24"), ("8!/5!=336", "336"), ("x!=2", r"x\ne2"),
    ],
)  # fmt: skip
def test_chains_with_percent_roundings_names_and_factorials(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"5=5\%=0.05=5\%", "5"), (r"5=5\%=0.05=5\%", "0.05"), (r"50=\frac12=50\%", "50"), (r"\frac12=50=50\%", "50"),
        (r"\frac34=0.75=76\%", "75"), (r"\frac34=0.76=75\%", "75"), (r"12\pi\approx12(3.14)=37.69", r"12\pi"),
        (r"12\pi\approx37=38", r"12\pi"), (r"12\pi\approx12(3.1)=37.2", r"12\pi"), (r"\frac13\approx0.333=0.3333", r"\frac13"),
        (r"\frac13\approx33.5\%", r"\frac13"), (r"\frac16\approx0.2", r"\frac16"), (r"\frac16\approx0.18", r"\frac16"),
        ("AB=AC=6", "5"), ("AB=5=AC", "5"), ("AB=6=5", "5"), (r"180^\circ-120", "60"), (r"180^\circ-120\text{ cm}", "60"),
        ("5!=6", "120"), ("5!=120", "5"), ("5 != 120", "120"), ("4!=120", "120"), ("x!=2", "2"),
    ],
)  # fmt: skip
def test_chains_that_are_false(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


N_GOLDS = [
    "1",
    "n",
    "n^2",
    "n!",
    "2^{n-1}",
    r"\frac{n(n+1)}2",
    r"\binom{2n-1}{n}",
    r"\lfloor\frac{n+1}{2}\rfloor",
    "(-1)^{n+1}",
    r"\sqrt n",
]


@pytest.mark.parametrize(
    "answer",
    [
        # too complex, or without a value, at all points but those where it is right
        r"1+0\lfloor m\rfloor\cdot 2^{20000n}", r"1+0\lfloor n\rfloor\cdot 2^{20000n}", "1+0a!b!(1-n)!", "n+0(2-n)!m!", "1+0(1-n)!",
        r"n+0\lfloor\frac m3+\frac m5\rfloor\cdot2^{20000n}",
    ],
)  # fmt: skip
def test_an_answer_is_right_for_no_more_than_one_gold(answer: str) -> None:
    assert sum(accepts(answer, gold) for gold in N_GOLDS) <= 1
    assert not accepts(f"(1,{answer})", "(1,n^2)")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"2^n+0\lfloor n\rfloor\cdot2^{1900n}+(n-1)(n-2)(n-3)(n-4)(n-5)(n-6)(n-7)(n-8)(n-9)(n-10)(n-11)", "2^n"),
        ("|x|+0x!", "x"), (r"\sqrt{x^2}+0\binom9x", "x"), (r"x\cos(2\pi x)+0x!", "x"), ("1+0x!", r"\cos(2\pi x)"),
        ("3+0a!b!(x-3)!(3-x)!", "x"), ("3+0a!b!(x-3)!(3-x)!", "|x|"), ("x+y-y+1", "x"),
    ],
)  # fmt: skip
def test_points_are_the_golds_and_not_the_answers(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


def test_powers_of_powers_take_no_time() -> None:
    began = time.process_time()
    assert not accepts(r"\lfloor n\rfloor+((((((10)^{20})^{20})^{20})^{20})^{20})^{20}", "n")
    assert time.process_time() - began < 2.0


@pytest.mark.parametrize("answer", [r"f(\emptyset)", r"f(\{\})", r"x=f(\emptyset)", r"g(\emptyset)+1", "f()", r"f(\{1,2\})"])
@pytest.mark.parametrize("gold", ["5", "x", r"\frac12", "f(1,2)"])
def test_a_set_is_no_list_of_arguments(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    "words",
    [
        "wavelengths", "wreaths", "breaths", "tablecloths", "washcloths", "footpaths", "sloths", "mammoths", "blacksmiths", "labyrinths",
        "health points", "blindfolds",
    ],
)  # fmt: skip
def test_units_that_end_like_fractions(words: str) -> None:
    assert accepts(rf"12\text{{ {words}}}", "12")
    assert accepts("12", rf"12\text{{ {words}}}")


@pytest.mark.parametrize(
    "words",
    [
        "fortieths", "hundredths", "millionth", "billionths", "kths", "fourteenth", "ones", "M", "mil", "doz", "dz", "nil", "invalid",
        "rejected", "impossible", "untrue", "percent^2",
    ],
)  # fmt: skip
def test_more_words_that_change_a_number(words: str) -> None:
    assert not accepts(rf"5\text{{ {words}}}", "5")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\frac{10!}{3!7!}", "120"), (r"\frac{9!}{4!3!2!}=1260", "1260"), (r"\frac{8!}{2!2!}", "10080"), (r"\frac{5!}{5!0!}", "1"),
        (r"\binom83", "56"), (r"\binom52", "10"), (r"\binom{5}2", "10"), (r"\binom83 3!", "336"), (r"\binom{8}{3}3!", "336"),
        (r"\binom{8}3 3!", "336"), (r"\binom8{3}3!", "336"), (r"\binom52 2^3", "80"), (r"\frac32 2^n", r"3\cdot2^{n-1}"),
        (r"\frac{3}{2}2^n", r"3\cdot2^{n-1}"), ("n(n+1)2^{n-2}", r"n(n+1)\cdot2^{n-2}"), ("n(n+1) 2^{n-2}", r"n(n+1)\cdot2^{n-2}"),
        ("2^{n}3^{n}", "6^n"), (r"\sqrt{2}3", r"3\sqrt2"), ("x^{2}3", "3x^2"), ("3! 3!", "36"),
        (r"1\frac12", "1.5"), ("1 1/2", "1.5"), (r"2\cdot1\frac12", "3"),
    ],
)  # fmt: skip
def test_numbers_behind_factors(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("{1}2", "2"), ("{1+1}2", "4"), ("{1+1}2", "2"), ("{3}4", "12"), ("(3) 4", "12"), ("(A)24", "24"), ("x 24", "24"),
        ("x_{1}24", "24"), (r"\overline{AB}24", "24"), (r"1\frac12 2", "3"), (r"1\frac{1}{2}2", "3"), ("1 1/2 2", "3"),
        (r"\frac{1}{2}{3}4", "6"), (r"0.\overline{3}45", "45"), (r"1.5\overline{3}0", "0"), ("(n+1)0", "0"), (r"\frac{7}{2}1", r"\frac72"),
        (r"2\frac12", "1"), (r"\binom83", "83"),
    ],
)  # fmt: skip
def test_digits_that_may_belong_to_what_stands_before(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        # several values of one unknown, numbered
        ("-2,1", "x_1=1, x_2=-2"), (r"\{1,-2\}", "x_1=1, x_2=-2"), ("x_2=-2,x_1=1", "x_1=1, x_2=-2"), ("x=1,x=-2", "x_1=1, x_2=-2"),
        (r"(0,\pm1)", r"x=0, y=\pm1"), (r"y=\pm1, x=0", r"x=0, y=\pm1"),
        (r"x=0,y=1\text{ or }y=-1", r"x=0, y=\pm1"), ("y=-1,x=0,y=1", r"x=0, y=\pm1"), (r"x=0, y=\pm1", "x=0,y=1,y=-1"),
        # names that are no single letter
        ("5", "AB=5"), ("AB=10/2", "AB=5"), ("BA=5", "AB=5"), ("5=AB", "AB=5"), (r"5\text{ cm}", r"AB=5\text{ cm}"),
        ("AB=5", r"AB=5\text{ cm}"), ("2x+2y=10", "x+y=5"), ("BC=5,AB=3", "AB=3, BC=5"), ("CD=AB", "AB=CD"),
        # usual orders, and tuples of names
        ("m=2,b=-3", "(2,-3)"), ("m=2,c=-3", "(2,-3)"), ("n=15,k=-29", "(15,-29)"), ("(b,m)=(3,2)", "m=2, b=3"),
        ("(m,b)=(2,3)", "m=2, b=3"), ("b=2,a=1", "(a,b)=(1,2)"), ("1,2", "(a,b)=(1,2)"),
        # alternatives
        (r"2\text{ or }4", "2,4"), (r"(2\text{ or }4)", "2,4"), (r"\{2\text{ or }4\}", "2,4"), (r"4\text{ or }2", r"\{2,4\}"),
        (r"x=2\text{ or }x=4", "2,4"), ("2,4", r"4 \text{ or } 2"), (r"(3,4)\text{ or }(1,2)", "(1,2),(3,4)"),
        (r"0\text{ or }\pm2", "0,2,-2"), (r"1, 2,\text{ or }3", "1,2,3"),
    ],
)  # fmt: skip
def test_names_and_alternatives(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("(-2,1)", "x_1=1, x_2=-2"), ("x_1=-2,x_2=1", "x_1=1, x_2=-2"), ("y=1,y=-2", "x_1=1, x_2=-2"),
        ("1,1", "x_1=1, x_2=-2"), ("1", "x_1=1, x_2=-2"),
        ("-2,1", "a_1=1, a_2=-2"), ("a_1=-2,a_2=1", "a_1=1, a_2=-2"), ("2,1", "y_1=1, y_2=2"),
        (r"(\pm1,0)", r"x=0, y=\pm1"), ("(0,1)", r"x=0, y=\pm1"), ("(0,1,-1)", r"x=0, y=\pm1"),
        ("x=0,y=1,y=1", r"x=0, y=\pm1"), ("y=0,x=1,x=-1", r"x=0, y=\pm1"), ("x=0,y=1", r"x=0, y=\pm1"),
        (r"AB=5\text{ km}", r"AB=5\text{ cm}"), (r"5\text{ km}", r"AB=5\text{ cm}"), (r"x+y=5\text{ km}", r"x+y=5\text{ cm}"),
        ("CD=5", "AB=5"), ("x=5", "AB=5"), ("AB=5=6", "AB=5"), ("CD", "AB=CD"), ("5", "x+y=5"), ("5,3", "AB=3, BC=5"),
        ("BA=(1,2)", "AB=(1,2)"), ("n=1,m=2", "(1,2)"), ("(b,m)=(2,3)", "m=2, b=3"), ("x=1,y=2", "(a,b)=(1,2)"),
        ("a=2,b=1", "(a,b)=(1,2)"),
        (r"2\text{ or }4", "(2,4)"), (r"(2\text{ or }4)", "(2,4)"), (r"[2\text{ or }4]", "[2,4]"), (r"2\text{ or }4", "[2,4]"),
        (r"(x=1\text{ or }y=2)", "(1,2)"), (r"x=1\text{ or }y=2", "(1,2)"),
    ],
)  # fmt: skip
def test_names_and_alternatives_that_differ(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    "answer",
    [
        r"5\text{ students.}", "5,", "5;", r"5 \ ", r"5\,", r"5 \,.", "5.\\,", r"\Large 5", r"\textcolor{blue}{5}", r"{\color{red}5}",
        r"\color{red}5", r"5\text{ cm.}",
    ],
)  # fmt: skip
def test_marks_around_an_answer(answer: str) -> None:
    assert accepts(answer, "5")
    assert accepts(r"\text{B.}", "B")
    assert not accepts(r"1\textcolor{blue}{5}", "5")


@pytest.mark.parametrize(
    ("answer", "same"), [(r"0.\bar 3", True), (r"0.\bar3", True), (r"0.\overline 3", True), (r"0.\bar 36", False)]
)
def test_a_bar_over_one_digit(answer: str, same: bool) -> None:
    assert accepts(answer, r"\frac13") == same
    assert not accepts(answer, r"\frac{4}{11}")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\lfloor\frac{m+n+1}{100}\rfloor", r"\lfloor\frac{m+n}{100}\rfloor"),
        (r"\lfloor\frac{m-n+1}{100}\rfloor", r"\lfloor\frac{m-n}{100}\rfloor"),
        (r"\lfloor\frac{mn+1}{100}\rfloor", r"\lfloor\frac{mn}{100}\rfloor"), (r"\lfloor(n+1)/3^5\rfloor", r"\lfloor n/3^5\rfloor"),
        (r"\lfloor(n+1)/6!\rfloor", r"\lfloor n/6!\rfloor"), (r"i\sqrt{x^2-1}", r"\sqrt{1-x^2}"), (r"\sqrt{5-x}i", r"\sqrt{x-5}"),
        (r"\frac{(2n)!}{n!}", r"\binom{2n}{n}"), (r"\binom{2n}{n-1}", r"\binom{2n}{n}"), ("(n+1)!", "n!"), ("n", "n!"), ("x!", "n!"),
        ("1", "(-1)^n"), ("(-1)^{n+1}", "(-1)^n"), (r"\sin n\pi", "(-1)^n"), ("2^n", "(-2)^n"), ("0", r"\binom nk"),
        (r"\binom kn", r"\binom nk"),
        ("0", r"\binom mn"), (r"\frac{x^n}{(n+1)!}", r"\frac{x^n}{n!}"), (r"\frac{y^n}{n!}", r"\frac{x^n}{n!}"),
    ],
)  # fmt: skip
def test_functions_that_differ_at_few_points(answer: str, gold: str) -> None:
    assert not accepts(answer, gold)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\lceil\frac{m+n-99}{100}\rceil", r"\lfloor\frac{m+n}{100}\rfloor"), (r"\lceil (n-242)/3^5\rceil", r"\lfloor n/3^5\rfloor"),
        (r"\sqrt{(1-x)(1+x)}", r"\sqrt{1-x^2}"), (r"\sqrt{-(5-x)}", r"\sqrt{x-5}"), (r"\ln\frac{x+1}{x-1}", r"\ln(x+1)-\ln(x-1)"),
        (r"\frac\pi2-\arccos x", r"\arcsin x"), ("x^{y-1}x", "x^y"), (r"\frac{\ln x}{\ln 2}", r"\log_2 x"),
        (r"\frac{(2n)!}{(n!)^2}", r"\binom{2n}{n}"), ("n(n-1)!", "n!"), (r"\frac1{n!}\cdot2^n", r"\frac{2^n}{n!}"),
        (r"\cos n\pi", "(-1)^n"),
        ("(-1)^{n+2}", "(-1)^n"), (r"(-1)^{n}2^{n}", "(-2)^n"), (r"\frac{x\cdot x^{n-1}}{n(n-1)!}", r"\frac{x^n}{n!}"),
        (r"\frac{n!}{k!(n-k)!}", r"\binom nk"), (r"\frac{(m+n)!}{m!n!}", r"\binom{m+n}{n}"), (r"\frac{n(n-1)}2", r"\binom n2"),
    ],
)  # fmt: skip
def test_functions_that_are_equal(answer: str, gold: str) -> None:
    assert accepts(answer, gold)


def test_counting_and_branches_cost_little() -> None:
    for answer in (
        "+".join(rf"\binom{{{k}n}}{{n}}" for k in range(2, 60)), "+".join(f"({k}n)!" for k in range(1, 60)), "n!^{n!}", r"\binom{n!}{m!}k!",
        "+".join(rf"\sqrt{{x+{k}}}" for k in range(1, 60)) + "+x^{2024}", "+".join(rf"(-{k})^{{n+m}}" for k in range(1, 60)),
    ):  # fmt: skip
        for gold in (answer + "+1", "0+" + answer):
            start = time.process_time()
            compare_answers(answer, gold)
            assert time.process_time() - start < 2.0, answer
