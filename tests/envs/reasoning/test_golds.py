"""Gold answers in the forms that data sets give them, and those that no response can match."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from sppo_rl.envs.reasoning import FunctionScorer, Problem, TRLReward, from_pairs, from_records, verify
from sppo_rl.envs.reasoning.golds import warn_of_unlikely_golds


def test_a_list_of_answers_needs_all_of_them() -> None:
    (problem,) = from_records([{"question": "q", "answer": ["1", "$-2$"]}])
    assert [verify(rf"\boxed{{{answer}}}", problem.answer) for answer in ("x=-2, x=1", "1", "1,2")] == [1.0, 0.0, 0.0]


@pytest.mark.filterwarnings("ignore:1 of 1 gold answers")
@pytest.mark.parametrize(
    ("row", "gold"),
    [
        ({"answer": "24 clips in May.\nAltogether 48+24 = <<48+24=72>>72 clips.\n#### 72"}, "72"),
        ({"answer": "So much.\n#### 1,200"}, "1,200"),
        ({"solution": r"First \boxed{1}.\nThus the answer is $\boxed{\frac{7}{2}}$."}, r"\frac{7}{2}"),
        ({"answer": r"\boxed{72}"}, "72"),
        ({"final_answer": ["72"]}, "72"),
        ({"reward_model": {"ground_truth": [["72"]]}}, "72"),
        ({"final_answer": np.array(["72"])}, "72"),
        ({"answer": 72}, "72"),
        ({"answer": [1, 2]}, "1, 2"),
        ({"answer": ["$1$", r"\boxed{2}", "x=3"]}, "1, 2, x=3"),
        ({"answer": [r"\$5", r"6\$"]}, r"\$5, 6\$"),
        ({"answer": np.array(["(1,2)", "(3,4)"])}, "(1,2), (3,4)"),
        ({"answer": r"\boxed{\frac{1}{"}, r"\boxed{\frac{1}{"),
    ],
)
def test_golds_in_all_the_forms_that_data_sets_give_them(row: dict[str, Any], gold: str) -> None:
    (problem,) = from_records([{"question": "q", **row}])
    assert problem.answer == gold


UNLIKELY = r"1 of 2 gold answers are empty, cut off, have several lines .* problem '{}': '"


@pytest.mark.parametrize(
    "answer",
    [
        "We prove it.\nFirst …",
        "x" * 201,
        "",
        " \n",
        [],
        [None],
        [" "],
        r"\boxed{ }",
        "So it is.\n####",
        np.array([]),
        r"\frac{1",
    ],
    ids=[
        "lines",
        "long",
        "empty",
        "blank",
        "no_element",
        "none",
        "blank_element",
        "empty_box",
        "nothing_behind",
        "array",
        "cut_off",
    ],
)
def test_golds_that_no_response_will_match_are_pointed_out(answer: Any) -> None:
    with pytest.warns(UserWarning, match=UNLIKELY.format("proof")):
        from_records([{"question": "q", "answer": "5"}, {"question": "q", "answer": answer, "id": "proof"}])


def test_empty_golds_are_pointed_out_wherever_problems_come_from() -> None:
    with pytest.warns(UserWarning, match=UNLIKELY.format("1")):
        problems = from_pairs([("1+1?", "2"), ("1+2?", "  ")])
    with pytest.warns(UserWarning, match=UNLIKELY.format("1")):
        warn_of_unlikely_golds(problems)
    judged_otherwise = Problem("Say it.", "", "own", scorer=FunctionScorer(lambda response, gold: 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_unlikely_golds([problems[0], judged_otherwise])


@pytest.mark.parametrize("empty", ["", " ", [], [""], None, r"\boxed{}"], ids=repr)
def test_an_empty_answer_gives_way_to_a_column_that_holds_one(empty: Any) -> None:
    rows = [
        {"problem": "1+1?", "answer": empty, "solution": r"so \boxed{2}"},
        {"problem": "1+1?", "reward_model": {"ground_truth": empty}, "answer": "2", "solution": r"\boxed{3}"},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problems = from_records(rows)
    assert [problem.answer for problem in problems] == ["2", "2"]
    seen: list[str] = []
    TRLReward(lambda completions, answer, **rest: seen.extend(answer) or [0.0, 0.0]).score(problems, ["", ""], [[], []])
    assert seen == ["2", "2"]


def test_a_row_where_no_column_has_an_answer_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Row 1 has the columns \['answer', 'problem', 'reward_model'\]"):
        from_records(
            [{"problem": "1?", "answer": "1"}, {"problem": "2?", "answer": None, "reward_model": {"ground_truth": None}}]
        )
