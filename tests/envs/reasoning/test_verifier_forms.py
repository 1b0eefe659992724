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
