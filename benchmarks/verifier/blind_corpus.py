"""A second labelled corpus, written before the verifier's code, its tests or the first corpus were read.

It was written only from the table in ``docs/verifier.md`` (``strict`` mode) and the kinds of golds that AIME, AMC, MATH-500,
Minerva and DAPO have; pairs that the table leaves open were left out. Three parts: rules that make right forms and near misses
of whole numbers, decimals, scientific notation and fractions; the hand-written answers of ``blind_answers.txt``; and whole
responses that have no answer, or have it in the wrong place. Every answer is put into one of a dozen responses as models write
them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

Case = tuple[str, str, str, bool]


def listed(text: str) -> list[str]:
    """The forms of a text that has ``;;`` between them."""
    return text.split(" ;; ")


WHOLE = listed(
    "0 ;; 1 ;; 2 ;; 7 ;; 12 ;; 25 ;; 33 ;; 73 ;; 104 ;; 204 ;; 248 ;; 385 ;; 468 ;; 902 ;; 999 ;; 1625 ;; 2024 ;; 3159 ;; "
    "12345 ;; 20736 ;; 480000 ;; 1000000007 ;; 9876543210 ;; 27.0 ;; 901.0 ;; 033 ;; 073 ;; -1 ;; -17 ;; -250 ;; +2"
)
DECIMALS = listed(
    "0.15 ;; .35625 ;; 3.21 ;; 4.5 ;; 326.5 ;; 20.39 ;; -0.875 ;; 0.006 ;; 24.310 ;; 4.03188 ;; 0.05 ;; "
    "56.0 ;; .0000672 ;; 99.9"
)
SCIENTIFIC = listed(
    "4.4e7 ;; 2.88e-19 ;; 7.353e14 ;; 3e8 ;; 1.325e-27 ;; 8.49e-4 ;; 2.7778e-6 ;; 1.4903e4 ;; 6.5e-2 ;; 9e11 ;; -1.6e-19"
)
FRACTIONS = listed(
    r"\frac{3}{4} 3 4 ;; \frac{11}{2} 11 2 ;; -\frac{24}{25} -24 25 ;; \frac{243}{625} 243 625 ;; "
    r"\frac{2}{1005} 2 1005 ;; \dfrac{17}{50} 17 50 ;; \frac43 4 3 ;; -\frac{35}{9} -35 9 ;; \frac 34 3 4 ;; "
    r"\frac{639}{40} 639 40 ;; \frac{1}{3} 1 3 ;; 5/8 5 8 ;; \frac{1997}{2} 1997 2 ;; -3./2 -3 2"
)
"""Golds, with numerators and denominators behind them."""

FRAMES = (
    "The answer is $\\boxed{ANSWER}$.",
    "\\boxed{ANSWER}",
    "**Final Answer**\n\n\\[\n\\boxed{ANSWER}\n\\]\n",
    "<think>\nSet up the equations, then eliminate.\n</think>\n\nThe result is $$\\boxed{ANSWER}$$",
    "<think>First guess: \\boxed{OTHER}. No, that misses a case.</think> So the answer is **\\boxed{ANSWER}**",
    "This gives \\boxed{OTHER}. Wait, I used the wrong sign. Corrected: $\\boxed{ANSWER}$.",
    "I add the two cases, and then I am done.\n</think>\n\nTherefore the final answer is \\boxed{ANSWER}.",
    "Step 1: substitute.\n\\begin{align*}\na &= b \\\\\n  &= \\boxed{ANSWER}\n\\end{align*}\nThis completes the solution.",
    "### Solution\nWe use $\\frac{1}{2}bh$ twice.\n\nAnswer: \\( \\boxed{ ANSWER } \\)",
    "So $\\boxed{ANSWER}$ holds; for $\\{1, 2\\}$ and $f(x) = \\sqrt{x}$ it can be checked by hand in 3 lines.",
    "\\boxed{OTHER}? \\boxed{OTHER}? No.\n\n---\n\n**Answer:** $\\boxed{ANSWER}$",
    "By symmetry half of the 48 cases remain, so the answer is $\\displaystyle \\boxed{ANSWER}$\n\nI am confident.",
)
"""Responses: ``OTHER`` is an answer given up before, a wrong one in right responses and the gold in wrong ones."""


def grouped(number: int, separator: str) -> str:
    """The digits of a whole number in groups of three."""
    return f"{number:,}".replace(",", separator)


def whole_right(gold: str) -> list[str]:
    """Other ways to write a whole number."""
    n = int(float(gold))
    s = str(n)
    text = rf"{s} ;; {s}. ;; {s}.0 ;; ${s}$ ;; \text{{{s}}} ;; x = {s} ;; \frac{{{2 * n}}}{{2}} ;; {n - 7}+7 ;; "
    text += rf"\mathbf{{{s}}} ;; {n + 5} - 5 ;; "
    text += (
        rf"{s} \text{{ ways}} ;; \displaystyle {s} ;; {s}/1 ;; N={s} ;; \,{s}\, ;; {n - 4} + 4 = {s} ;; {s}\text{{ units}} ;; "
    )
    text += rf"\frac{{{3 * n}}}{{3}} ;; **{s}** ;; {s}.00 ;; \text{{Answer}} = {s} ;; {s}\; ;; {gold}"
    if n >= 0:
        text += rf" ;; 0{s} ;; {s}^\circ"
    if n % 2 == 0 and n:
        text += rf" ;; {'-' if n < 0 else ''}2 \cdot {abs(n) // 2} ;; {n // 2} \times 2"
    separated = [grouped(n, mark) for mark in (",", "{,}", r"\,", r",\!")] if abs(n) >= 1000 else []
    return separated + listed(text)


def whole_wrong(gold: str) -> list[str]:
    """Near misses of a whole number."""
    n = int(float(gold))
    s = str(n)
    text = rf"{n + 1} ;; {n - 1} ;; {s}.001 ;; {s} \text{{ or }} {n + 1} ;; {s}, {n + 1} ;; \{{{s}, {n + 1}\}} ;; "
    text += rf"{n + 10} ;; {s}.5 ;; "
    text += rf"{n + 1} = {s} ;; {s} = {n + 1} ;; {s} \pm 1 ;; x > {s} ;; x \neq {s} ;; [{s}, {n + 1}] ;; "
    text += rf"\text{{not }} {s} ;; {s}, {s} ;; "
    text += rf"{s} \text{{ or more}} ;; \frac{{{s}}}{{0}} ;; \infty ;; \text{{yes}} ;; x = {n + 2} ;; ({s}, {s}) ;; "
    text += rf"{s}.0001 ;; ? ;; ... ;; "
    text += rf"{n - 1} \text{{ or }} {s} ;; \frac{{{2 * n + 1}}}{{2}} ;; {s} + x"
    if n:
        text += rf" ;; {-n} ;; {100 * n} ;; {n / 100:.2f} ;; {s} \times 10^2 ;; {s} \text{{ million}} ;; {s} i ;; "
        text += rf"{s}\pi ;; \pm {abs(n)} ;; {s}x"
        text += rf" ;; {s}\,000 ;; -({s}) ;; {s} \text{{ hundred}} ;; {10 * n} ;; \frac{{{s}}}{{100}}"
    if abs(n) > 2:
        text += rf" ;; \frac{{1}}{{{s}}} ;; ({s})^2 ;; " + (rf"\sqrt{{{s}}}" if n > 0 else rf"|{s}|")
    if abs(n) >= 7:
        text += rf" ;; {s}_7"
    if 2 < n < 1000:
        text += rf" ;; {s}! ;; \log {s}"
    if n > 9 and s[::-1] != s:
        text += f" ;; {s[::-1].lstrip('0')} ;; {s[:-1]}"
    if abs(n) >= 10000:
        k = len(s) - 1
        text = rf"{n + n // 100000 + 1} ;; {n - n // 100000 - 1} ;; {n / 10**k:.2f} \times 10^{{{k}}} + 1 ;; " + text
    return listed(text)


def plain(value: Fraction) -> str:
    """A terminating decimal, written out."""
    sign, value, digits = ("-" if value < 0 else ""), abs(value), 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    text = str(int(value * 10**digits)).rjust(digits + 1, "0")
    return sign + (f"{text[:-digits]}.{text[-digits:]}" if digits else text)


def decimal_right(gold: str) -> list[str]:
    """Other ways to write a decimal."""
    value = Fraction(gold)
    s, n, d = plain(value), value.numerator, value.denominator
    point = s if "." in s else f"{s}.0"
    text = rf"{s} ;; {gold} ;; {point}0 ;; {point}000 ;; x = {s} ;; \frac{{{n}}}{{{d}}} ;; {s} \text{{ cm}} ;; "
    text += rf"{n}/{d} ;; \text{{{s}}}"
    text += rf" ;; {plain(value * 10)} \times 10^{{-1}} ;; {plain(value * 100)}e-2 ;; ${s}$"
    if abs(value) < 1:
        text += rf" ;; {s.replace('0.', '.', 1)} ;; {plain(value * 100)}\%"
    return listed(text)


def decimal_wrong(gold: str) -> list[str]:
    """Near misses of a decimal."""
    value = Fraction(gold)
    s = plain(value)
    point = s if "." in s else f"{s}.0"
    step = Fraction(1, 10 ** len(point.split(".")[1]))
    changed = (value + step, value - step, value * 100, value / 100, -value, value * 10, value / 10, value - step / 100000)
    text = (
        " ;; ".join(map(plain, changed))
        + rf" ;; {point}1 ;; {s}, {plain(value + step)} ;; {s} \text{{ or }} {plain(value + step)} ;; "
    )
    text += rf"{point}0001 ;; {s} \times 10^2 ;; {s} \text{{ million}} ;; {s}\pi ;; {point.replace('.', ',')}"
    if abs(value) < 1:
        text += rf" ;; {s}\% ;; {plain(value * 10)}\%"
    return listed(text)


def scientific_right(gold: str) -> list[str]:
    """Other ways to write a number in scientific notation."""
    m, e = gold.split("e")[0], int(gold.split("e")[1])
    value = Fraction(gold)
    text = rf"{m} \times 10^{{{e}}} ;; {gold} ;; {m}\cdot 10^{{{e}}} ;; {m}E{e} ;; {m}e{e:+03d} ;; {plain(value)} ;; "
    text += rf"x = {m} \times 10^{{{e}}}"
    text += rf" ;; {plain(Fraction(m) * 10)} \times 10^{{{e - 1}}} ;; {m if '.' in m else m + '.0'}0e{e} ;; "
    text += rf"{m}\times10^{{{e}}} \text{{ m}}"
    text += rf" ;; {m} \,\times\, 10^{{{e}}} ;; {m} * 10^{{{e}}}"
    if value > 0:
        text += rf" ;; 10^{{{e}}} \cdot {m}"
    text += rf" ;; \frac{{{m}}}{{10^{{{-e}}}}}" if e < 0 else rf" ;; {grouped(int(value), ',')} ;; {m} \times 10^{{+{e}}}"
    return listed(text)


def scientific_wrong(gold: str) -> list[str]:
    """Near misses of a number in scientific notation."""
    m, e = gold.split("e")[0], int(gold.split("e")[1])
    value = Fraction(m)
    text = (
        " ;; ".join(rf"{m} \times 10^{{{k}}}" for k in (e + 1, e - 1, -e, e + 2, e - 2))
        + rf" ;; {m} ;; {m}^{{{e}}} ;; 10^{{{e}}} ;; "
    )
    text += f"{plain(value + Fraction(1, 10))}e{e} ;; {plain(value - Fraction(1, 1000))}e{e} ;; "
    text += f"{m if '.' in m else m + '.0'}001e{e} ;; "
    text += rf"{plain(-value)}e{e} ;; {m} \times {e} ;; {m} \times 10^{{{e}}} \text{{ or }} 0 ;; {m}e{e}x"
    return listed(text)


def fraction_right(n: int, d: int) -> list[str]:
    """Other ways to write a fraction."""
    sign, a, value = ("-" if n < 0 else ""), abs(n), Fraction(n, d)
    text = " ;; ".join(rf"{sign}\{name}{{{a}}}{{{d}}}" for name in ("frac", "dfrac", "tfrac", "cfrac")) + r" ;; "
    text += rf"{n}/{d} ;; "
    text += rf"{sign}\frac{{{2 * a}}}{{{2 * d}}} ;; \frac{{{n}}}{{{d}}} ;; {sign}{{{a} \over {d}}} ;; "
    text += rf"x = {sign}\frac{{{a}}}{{{d}}} ;; "
    text += rf"{sign}\left(\frac{{{a}}}{{{d}}}\right) ;; {sign}\frac{{1}}{{{d}}} \cdot {a} ;; "
    text += rf"{sign}\frac {{{a}}} {{{d}}} ;; \frac{{{-n}}}{{{-d}}} ;; "
    text += rf"{sign}\frac{{{a}}}{{{d}}} \text{{ cm}} ;; {n} \div {d} ;; {sign}{a} \cdot {d}^{{-1}} ;; "
    text += rf"\frac{{{n - 1}}}{{{d}}} + \frac{{1}}{{{d}}}"
    if a > d:
        text += rf" ;; {sign}{a // d}\frac{{{a % d}}}{{{d}}} ;; {sign}{a // d} {a % d}/{d}"
    if a < 10 and d < 10:
        text += rf" ;; {sign}\frac{a}{d} ;; {sign}\frac {a} {d} ;; {sign}\frac{a}{{{d}}}"
    if 10**12 % d == 0:
        text += rf" ;; {plain(value)} ;; {plain(value)}0"
    return listed(text)


def fraction_wrong(n: int, d: int) -> list[str]:
    """Near misses of a fraction."""
    value, sign, a = Fraction(n, d), ("-" if n < 0 else ""), abs(n)
    pairs = (
        (d, n),
        (-n, d),
        (n + 1, d),
        (n, d + 1),
        (n - 1, d),
        (n, d - 1),
        (100 * n, d),
        (n, 100 * d),
        (n, 10 * d),
        (2 * n, d),
        (n + d, d),
    )
    forms = [rf"\frac{{{p}}}{{{q}}}" for p, q in pairs if Fraction(p, q) != value]
    forms += [text for text in (f"{float(value):.3f}", f"{float(value):.6f}") if Fraction(text) != value]
    text = rf"\frac{{{n}}}{{{d}}}x ;; {n}, {d} ;; \frac{{{n}}}{{{d}}} \text{{ or }} \frac{{{d}}}{{{n}}} ;; "
    text += rf"\sqrt{{\frac{{{a}}}{{{d}}}}} ;; "
    text += rf"{sign}1 - \frac{{{a}}}{{{d}}} ;; {sign}\frac{{{a}}}{{{d}}}\pi ;; {n}{d} ;; ({n}, {d})"
    if a < d:
        text += rf" ;; \frac{{{n}}}{{{d}}}\% ;; {sign}1\frac{{{a}}}{{{d}}}"
    return forms + listed(text)


def turn(forms: list[str], start: int, count: int) -> list[str]:
    """``count`` forms, beginning at another place for each gold, so that every rule is used about equally often."""
    forms = list(dict.fromkeys(forms))
    step = next(step for step in (5, 7, 11) if len(forms) % step)
    return [forms[(start + step * k) % len(forms)] for k in range(min(count, len(forms)))]


def generated() -> list[tuple[str, str, list[str], list[str]]]:
    """The parts that are made by rule."""
    groups = []
    for k, gold in enumerate(WHOLE):
        right, wrong = whole_right(gold), whole_wrong(gold)
        head = right[:3] if "," in right[0] else []
        hard = wrong[:3] if abs(int(float(gold))) >= 10000 else []
        groups.append(("whole numbers", gold, head + turn(right, 7 * k, 9), hard + turn(wrong, 7 * k, 16)))
    for k, gold in enumerate(DECIMALS):
        groups.append(("decimals", gold, turn(decimal_right(gold), 3 * k, 8), turn(decimal_wrong(gold), 3 * k, 10)))
    for k, gold in enumerate(SCIENTIFIC):
        groups.append(("scientific", gold, turn(scientific_right(gold), 3 * k, 10), turn(scientific_wrong(gold), 3 * k, 10)))
    for k, (gold, n, d) in enumerate((text.rsplit(" ", 2)) for text in FRACTIONS):
        groups.append(
            (
                "fractions",
                gold,
                turn(fraction_right(int(n), int(d)), 3 * k, 10),
                turn(fraction_wrong(int(n), int(d)), 3 * k, 11),
            )
        )
    return groups


CUT_OFF = (
    *(r"\frac{1", r"\sqrt{2", r"\frac{e^{-2 t", r"s^{2", r"\begin{pmatrix} 1 \\ 2", r"(1 - 3e^{-2t", r"\left(\frac{t^{2"),
)
"""Golds cut off in the middle, as Minerva's: nothing may be right for them."""

STRUCTURE_GOLDS = (
    *(
        ("73", "74"),
        (r"\frac{3}{4}", r"\frac{4}{3}"),
        ("1,-2", "1,2"),
        ("(3,4]", "(3,4)"),
        (r"2\sqrt{3}", r"3\sqrt{2}"),
        ("52_8", "52_9"),
    ),
    *(
        (r"\text{even}", r"\text{odd}"),
        (r"\text{(C)}", r"\text{(B)}"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    ),
    *(("x^2+1", "x^2-1"), ("4.4e7", "4.4e6"), (r"\{1,2,3\}", r"\{1,2\}")),
)
"""Golds, and a wrong answer for each."""

STRUCTURE_RIGHT = (
    "\\boxed{OTHER} is wrong, \\boxed{OTHER} too; \\boxed{ANSWER} is right.",
    "<think>\\boxed{OTHER}</think>\\boxed{ANSWER}",
    "long thoughts with \\boxed{OTHER}\n</think>\n\\boxed{ANSWER}",
    "<think>a</think>\nSome words.\n\n$$\n\\boxed{ANSWER}\n$$\n\nThe number 100 appears by chance, \\textbf{so} do {braces}.",
    "So $x$ is **\\boxed{$ANSWER$}**.",
    "\\[\\boxed{\\,ANSWER\\,}\\]",
    "1. First.\n2. Then $\\boxed{ANSWER}.$",
    "Thus \\boxed{ANSWER}\n\nIn words: that is all, with no further cases \\qed",
)
STRUCTURE_WRONG = (
    ("no box", "The answer is ANSWER."),
    ("no box", "Therefore, $x = ANSWER$. Final answer: $ANSWER$"),
    ("no box", "#### ANSWER"),
    ("no box", ""),
    ("no box", "**Answer: ANSWER**"),
    ("thinking", "<think>So it is \\boxed{ANSWER}</think>"),
    ("thinking", "<think>So it is \\boxed{ANSWER}.</think>\n\nThe answer is ANSWER."),
    ("thinking", "<think>So it is \\boxed{ANSWER}. But let me check this once more, because"),
    ("thinking", "So it is \\boxed{ANSWER}.\n</think>\n\nThe answer is ANSWER."),
    ("thinking", "<think>\\boxed{ANSWER}</think> The final answer is \\boxed{OTHER}."),
    ("last box", "First \\boxed{ANSWER}, no, I mean \\boxed{OTHER}."),
    ("last box", "\\boxed{ANSWER} or maybe \\boxed{ANSWER} or \\boxed{OTHER}"),
    ("last box", "\\boxed{ANSWER} \\boxed{}"),
    ("empty box", "The answer is ANSWER: \\boxed{}"),
    ("empty box", "\\boxed{ }"),
    ("unclosed box", "The answer is \\boxed{ANSWER"),
    (
        "unclosed box",
        "Half of it is \\boxed{OTHER} and all of it is $\\boxed{ANSWER $ as shown above. Then we add the rest and",
    ),
    ("placeholder", "\\boxed{\\text{answer}}"),
    ("placeholder", "\\boxed{\\text{the answer is above}}"),
    ("placeholder", "ANSWER \\boxed{\\ldots}"),
    ("hedging", "\\boxed{ANSWER \\text{ or } OTHER}"),
    ("hedging", "\\boxed{\\text{either } ANSWER \\text{ or } OTHER}"),
    ("wrong", "\\boxed{OTHER}"),
    ("wrong", "ANSWER = ANSWER, so \\boxed{OTHER}. Once more: ANSWER."),
)


def structure() -> list[Case]:
    """Whole responses: where the answer stands decides."""
    cases: list[Case] = []
    for gold, other in STRUCTURE_GOLDS:
        cases += [("place of the box", _fill(frame, gold, other), gold, True) for frame in STRUCTURE_RIGHT]
        for category, frame in STRUCTURE_WRONG:
            if category != "hedging" or gold != "(3,4]":  # as sets of numbers, (3,4] or (3,4) is (3,4]
                cases.append((category, _fill(frame, gold, other), gold, False))
    for gold in CUT_OFF:
        cases += [
            ("malformed golds", f"\\boxed{{{answer}}}", gold, False) for answer in ("1", r"\frac{1}{2}", r"\sqrt{2}", "x")
        ]
        cases.append(("malformed golds", f"\\boxed{{{gold}}}", gold, False))
    return cases


def _fill(frame: str, answer: str, given_up: str) -> str:
    return frame.replace("OTHER", given_up).replace("ANSWER", answer)


def hand_written() -> list[tuple[str, str, list[str], list[str]]]:
    """The answers of ``blind_answers.txt``."""
    groups: list[tuple[str, str, list[str], list[str]]] = []
    for line in Path(__file__).with_name("blind_answers.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            category, gold = line[1:].split("] ", 1)
            groups.append((category, gold, [], []))
        elif line.startswith(("+ ", "- ")):
            groups[-1][2 if line[0] == "+" else 3].extend(listed(line[2:]))
    return groups


def labelled() -> list[Case]:
    """Every case: category, response, gold, and whether the response is right."""
    cases: list[Case] = []
    for category, gold, right, wrong in (*generated(), *hand_written()):
        for answers, label in ((right, True), (wrong, False)):
            for answer in answers:
                frame = FRAMES[(len(cases) * 5) % len(FRAMES)]
                # a dollar sign of the answer's own would pair with the response's
                frame = FRAMES[1] if answer.startswith("$") else frame
                cases.append((category, _fill(frame, answer, wrong[0] if label else gold), gold, label))
    return list(dict.fromkeys(cases + structure()))
