"""Where problems come from: records, files, named data sets, reasoning_gym; and what judges them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sppo_rl.envs.reasoning import (
    BOXED_INSTRUCTION,
    AnswerScorer,
    FunctionScorer,
    MathReasoningEnv,
    Problem,
    TRLReward,
    Verdict,
    VerlScore,
    from_file,
    from_pairs,
    from_reasoning_gym,
    from_records,
    load_named,
    verify,
)
from sppo_rl.envs.reasoning.gym_tasks import is_safe
from sppo_rl.envs.reasoning.rewards import as_scorer, score_batch

VERL_ROW = {
    "data_source": "math_dapo",
    "prompt": [{"role": "user", "content": "What is 1+1?"}],
    "ability": "MATH",
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": "row-7"},
}


def test_schemas() -> None:
    (verl,) = from_records([VERL_ROW])
    assert (verl.messages, verl.answer, verl.id, verl.source) == (VERL_ROW["prompt"], "2", "row-7", "math_dapo")
    (trl,) = from_records([{"prompt": "What is 1+1?", "answer": 2, "level": 3}], source="mine")
    assert (trl.prompt, trl.answer, trl.id, trl.source, trl.columns["level"]) == ("What is 1+1?", "2", "0", "mine", 3)
    (chat,) = from_records([{"prompt": VERL_ROW["prompt"], "ground_truth": "2"}], instruction="Box it.")
    assert chat.messages == [{"role": "user", "content": "What is 1+1?\nBox it."}]
    (plain,) = from_records([{"question": "Q", "answer": "3", "id": "q3"}])
    assert (plain.prompt, plain.id) == ("Q", "q3")
    with pytest.raises(ValueError, match=r"Row 0 has the columns \['prompt'\]"):
        from_records([{"prompt": "no answer"}])


def test_files(tmp_path: Path) -> None:
    rows = [{"problem": f"{k}?", "answer": str(k)} for k in range(3)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (tmp_path / "b.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [problem.answer for problem in from_file(tmp_path / "a.jsonl")] == ["0", "1", "2"]
    assert from_file(tmp_path / "b.json", source="b") == from_file(tmp_path / "a.jsonl", source="b")
    with pytest.raises(ValueError, match=r"neither \.jsonl"):
        from_file(tmp_path / "c.csv")


def test_parquet_in_verls_schema(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the [llm] extra")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the [llm] extra")

    parquet.write_table(pyarrow.Table.from_pylist([VERL_ROW] * 2), tmp_path / "train.parquet")
    (first, _) = from_file(tmp_path / "train.parquet")
    assert (first.answer, first.source, first.messages) == ("2", "math_dapo", VERL_ROW["prompt"])


def test_named_sets_of_the_real_files(data_dir: Path) -> None:
    loaded = {
        name: load_named(name, data_dir=data_dir)
        for name in ("aime24", "AIME25", "amc23", "MATH-500", "minerva", "DAPO-Math-17k")
    }
    assert {name: len(sets.problems) for name, sets in loaded.items()} == {
        "aime24": 30, "AIME25": 30, "amc23": 40, "MATH-500": 500, "minerva": 204, "DAPO-Math-17k": 2000,
    }  # fmt: skip
    assert len(loaded["minerva"].malformed) == 68
    assert all(not sets.malformed for name, sets in loaded.items() if name != "minerva")
    for name in ("aime24", "AIME25", "amc23", "DAPO-Math-17k"):
        assert all(str(int(problem.answer)) == problem.answer for problem in loaded[name].problems)
    assert "73" in {problem.answer for problem in loaded["aime24"].problems}
    assert "336" in {problem.answer for problem in loaded["AIME25"].problems}
    for sets in loaded.values():
        assert all(str(problem.prompt).endswith(BOXED_INSTRUCTION) for problem in sets.problems)
        assert all(verify(f"\\boxed{{{problem.answer}}}", problem.answer) for problem in sets.problems)


def test_named_sets_clean_what_they_find(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    content = (
        "Solve the following math problem step by step. The last line of your response should be of the form Answer: $Answer "
        "(without quotes) where $Answer is the answer to the problem.\n\nWhat is 1+1?\n\n"
        'Remember to put your answer on its own line after "Answer:".'
    )
    row = {**VERL_ROW, "prompt": [{"role": "user", "content": content}]}
    (tmp_path / "train" / "dapo_sample.jsonl").write_text("\n".join([json.dumps(row)] * 3), encoding="utf-8")
    loaded = load_named("dapo_math_17k", instruction="", data_dir=tmp_path)
    assert [problem.messages for problem in loaded.problems] == [[{"role": "user", "content": "What is 1+1?"}]]
    assert loaded.duplicates == 2
    with pytest.raises(ValueError, match=r"Unknown data set 'gsm'\. Known: aime24"):
        load_named("gsm")


def test_reasoning_gym_tasks_use_their_own_verifier() -> None:
    pytest.importorskip("reasoning_gym")
    problems = from_reasoning_gym("countdown", 3, seed=1)
    scorer = problems[0].scorer
    assert scorer is not None
    try:
        solution = problems[0].columns["entry"]["metadata"]["expression"]
        attack = "__import__('os').system('true')"
        verdicts = score_batch(
            AnswerScorer(), [problems[0]] * 3, [f"\\boxed{{{solution}}}", f"\\boxed{{{attack}}}", "no box"], [[], [], []]
        )
        assert [(verdict.score, verdict.reason) for verdict in verdicts] == [
            (1.0, "correct"), (0.0, "unsafe_answer"), (0.0, "no_box"),
        ]  # fmt: skip
    finally:
        scorer.close()
    again = from_reasoning_gym("countdown", 3, seed=1)
    assert [problem.prompt for problem in again] == [problem.prompt for problem in problems]
    with pytest.raises(ValueError, match="reasoning_gym has no task 'chain_sums'"):
        from_reasoning_gym("chain_sums", 3)


@pytest.mark.parametrize(
    ("task", "answer", "safe"),
    [
        ("chain_sum", "__import__('os')", True),  # compared as a string, never evaluated
        ("countdown", "(3+4)*5 - 2/1", True), ("countdown", "3**4", False), ("countdown", "abs(3)", False), ("countdown", "9" * 60, False),
        ("simple_integration", "x**2/2 + sin(x) + C", True), ("simple_integration", "exit(1)", False),
        ("simple_integration", "x.diff(x)", False), ("simple_integration", "9**9**9**9", False), ("simple_integration", "f'{x}'", False),
        ("n_queens", "[['_', 'Q'], ['Q', '_']]", True), ("n_queens", "open('x')", False), ("n_queens", "[].append", False),
        ("spiral_matrix", "[1, 2, 3]", True), ("spiral_matrix", "[1, __import__]", False),
    ],
)  # fmt: skip
def test_screens_answers_that_a_task_would_evaluate(task: str, answer: str, safe: bool) -> None:
    assert is_safe(task, answer) is safe


def test_every_task_that_evaluates_answers_is_screened() -> None:
    """Should a new release evaluate answers in other tasks, this says which."""
    gym = pytest.importorskip("reasoning_gym")
    import inspect
    import re

    from reasoning_gym.factory import DATASETS

    evaluating = set()
    for name, (dataset, _) in DATASETS.items():
        method = inspect.getsource(dataset.score_answer)
        if re.search(r"\b(?:eval|exec|parse_expr|sympify|simplify)\(", method):
            evaluating.add(name)
    unscreened = {name for name in evaluating if is_safe(name, "__import__('os').system('true')")}
    assert evaluating
    assert unscreened <= {"number_sorting"}, f"reasoning_gym {gym.__version__}: {unscreened}"


def test_trl_reward_functions() -> None:
    seen: dict[str, Any] = {}

    def half_for_trying(
        prompts: list[Any], completions: list[Any], answer: list[str], level: list[Any], **rest: Any
    ) -> list[float | None]:
        seen.update(prompts=prompts, completions=completions, level=level, rest=rest)
        return [
            1.0 if gold in text else None if level_ is None else 0.5
            for text, gold, level_ in zip(completions, answer, level, strict=True)
        ]

    problems = [
        Problem("a?", "7", "a", columns={"level": 2}),
        Problem("b?", "8", "b", columns={"level": 2}),
        Problem("c?", "9", "c"),
    ]
    verdicts = TRLReward(half_for_trying).score(problems, ["7!", "no", "no"], [[3], [4], [5]])
    assert [(verdict.score, verdict.reason) for verdict in verdicts] == [(1.0, "correct"), (0.5, "partly"), (0.0, "wrong")]
    assert seen["prompts"] == ["a?", "b?", "c?"]
    assert seen["level"] == [2, 2, None]
    assert seen["rest"]["completion_ids"] == [[3], [4], [5]]
    both = TRLReward([half_for_trying, lambda completions, **rest: [1.0] * len(completions)], weights=[0.5, 0.5])
    assert [verdict.score for verdict in both.score(problems, ["7!", "no", "no"], [[], [], []])] == [1.0, 0.75, 0.5]
    with pytest.raises(ValueError, match=r"gave the reward -1\.0: rewards must lie in \[0, 1\]"):
        TRLReward(lambda completions, **rest: [-1.0] * len(completions)).score(problems[:1], ["x"], [[]])
    with pytest.raises(ValueError, match="returned 1 rewards for 3"):
        TRLReward(lambda **rest: [1.0]).score(problems, ["x"] * 3, [[]] * 3)


def score_of(rewards: list[float], weights: list[float] | None = None) -> Verdict:
    """What several reward functions, one for each reward, give together."""
    functions = [lambda completions, reward=reward, **rest: [reward] * len(completions) for reward in rewards]
    return TRLReward(functions, weights).score([Problem("a?", "7", "a")], ["7"], [[]])[0]


@pytest.mark.parametrize("n", range(1, 32))
def test_functions_that_agree_give_exactly_their_reward(n: int) -> None:
    """Six sixths add up to less than 1 (no success), nine ninths to more (no reward)."""
    unequal = [float(k + 1) / sum(range(1, n + 1)) for k in range(n)]
    for weights in (None, [1.0 / n] * n, unequal):
        assert score_of([1.0] * n, weights) == Verdict(1.0, "correct")
        assert score_of([0.0] * n, weights) == Verdict(0.0, "wrong")


def test_weighted_rewards_keep_their_size() -> None:
    for third in (0.3333333333, 0.3333333334):  # their sums are 1e-10 below 1 and 2e-10 above it
        assert score_of([1.0, 1.0, 1.0], [third] * 3) == Verdict(1.0, "correct")
    # 0.3 - 0.1 - 0.2 is -2.8e-17
    assert score_of([1.0, 1.0, 1.0], [0.3, -0.1, -0.2]) == Verdict(0.0, "wrong")
    assert score_of([1.0, 0.0, 0.5], [0.7, 0.2, 0.1]).score == pytest.approx(0.75)
    assert score_of([1.0, 0.0, 0.5]).score == 0.5
    # what is not rounding stays: nearly right is no success, and more than 1 no reward
    assert score_of([1.0, 1.0 - 1e-6], [0.5, 0.5]).reason == "partly"
    assert score_of([1.0 - 1e-12]).reason == "partly"
    for wrong in (1.0 + 1e-6, -1e-6, float("nan")):
        with pytest.raises(ValueError, match=r"rewards must lie in \[0, 1\]"):
            score_of([wrong, wrong], [0.5, 0.5])
    with pytest.raises(ValueError, match="2 reward functions, but 1 weights"):
        score_of([1.0, 1.0], [1.0])
    with pytest.raises(ValueError, match="at least one reward function"):
        TRLReward([])


def test_trl_completions_of_messages_are_messages() -> None:
    problem = Problem((("user", "a?"),), "7", "a")

    def reward(prompts: list[Any], completions: list[Any], **rest: Any) -> list[float]:
        assert prompts == [[{"role": "user", "content": "a?"}]]
        return [float(completions[0] == [{"role": "assistant", "content": "7"}])]

    assert TRLReward(reward).score([problem], ["7"], [[]])[0].score == 1.0


def test_verls_compute_score() -> None:
    def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> dict[str, Any]:
        assert (data_source, extra_info) == ("math_dapo", {"index": "row-7"})
        return {"score": float(ground_truth in solution_str), "acc": True}

    (problem,) = from_records([VERL_ROW])
    assert [verdict.score for verdict in VerlScore(compute_score).score([problem] * 2, ["2", "3"], [[], []])] == [1.0, 0.0]


def test_a_reward_function_is_called_in_the_form_that_its_signature_has() -> None:
    def trl(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        return [float(gold in completion) for completion, gold in zip(completions, answer, strict=True)]

    def verl(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> float:
        return float(ground_truth in solution_str)

    def plain(response: str, gold: str) -> float:
        return float(gold in response)

    problems = from_pairs([("a", "5"), ("b", "6")])
    for function, kind in ((trl, TRLReward), (verl, VerlScore), (plain, FunctionScorer)):
        scorer = as_scorer(function)
        assert type(scorer) is kind
        assert [verdict.score for verdict in scorer.score(problems, ["5", "5"], [[], []])] == [1.0, 0.0]
    with pytest.raises(TypeError, match=r"lambda.*completions.*solution_str"):
        as_scorer(lambda response: 1.0)


def test_what_may_be_a_verifier(tokenizer: Any) -> None:
    assert as_scorer(verify).score(from_pairs([("a", "5")]), [r"\boxed{5}"], [[]])[0].score == 1.0
    with pytest.raises(TypeError, match="got int"):
        as_scorer(5)  # type: ignore[arg-type]
    env = MathReasoningEnv(
        from_pairs([("a", "5")]), tokenizer, 16, 16, TRLReward(lambda completions, **rest: [0.25] * len(completions))
    )
    env.reset()
    _, reward, _, _, info = env.step(env.action_space.sample())
    assert reward == 0.25
    assert info["is_success"] is False


def test_imports_nothing_heavy() -> None:
    code = (
        "import sys; import sppo_rl.envs.reasoning; "
        "found = {'transformers', 'datasets', 'pyarrow', 'reasoning_gym', 'math_verify'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SOLVED = [{"role": "user", "content": "What is 2+3?"}, {"role": "assistant", "content": r"It is \boxed{5}."}]


def test_a_solution_in_the_messages_is_no_part_of_the_prompt() -> None:
    """OpenR1-Math and NuminaMath: ``messages`` holds the question and its solution."""
    row = {"problem": "What is 2+3?", "solution": r"It is \boxed{5}.", "answer": "5", "messages": SOLVED}
    (named,) = from_records([row], instruction="Box it.")
    assert named.prompt == "What is 2+3?\nBox it."
    bare = {"messages": [{"role": "system", "content": "Be brief."}, *SOLVED], "answer": "5"}
    (cut,) = from_records([bare], instruction="Box it.")
    assert cut.prompt == (("system", "Be brief."), ("user", "What is 2+3?\nBox it."))
    with pytest.raises(ValueError, match=r"prompt of row 0 ends with the assistant's turn, 'It is .*would see an answer"):
        from_records([{"prompt": SOLVED, "answer": "5"}])
    with pytest.raises(ValueError, match=r"row 0 has no message with role 'user': \['system'\]"):
        from_records([{"messages": bare["messages"][:1], "answer": "5"}])


def test_a_message_in_parts_is_their_text() -> None:
    def asked(content: Any) -> Any:
        return from_records([{"prompt": [{"role": "user", "content": content}], "answer": "4"}])[0].prompt

    parts = [{"type": "text", "text": "2+2?"}, {"text": " Be brief."}, " Box it."]
    assert asked(parts) == (("user", "2+2? Be brief. Box it."),)
    for content in ([{"type": "image", "url": "a.png"}], [], None, [5]):
        with pytest.raises(ValueError, match=r"message of row 0 has the content .* it must be a text, or parts"):
            asked(content)


def test_files_that_hold_no_rows(tmp_path: Path) -> None:
    (tmp_path / "object.json").write_text('{"data": [{"problem": "1?", "answer": "1"}]}')
    with pytest.raises(ValueError, match=r"object.json must hold a list of rows, .*an object with the keys \['data'\]"):
        from_file(tmp_path / "object.json")
    (tmp_path / "pairs.jsonl").write_text('["1?", "1"]\n')
    with pytest.raises(ValueError, match=r"Row 0 is a list, .*a row must map columns to values"):
        from_file(tmp_path / "pairs.jsonl")


def test_trl_reward_functions_get_every_column_but_the_prompt() -> None:
    """As in TRL, where only ``prompt`` is no argument of its own; an answer comes as the data set gives it."""
    seen: dict[str, Any] = {}

    def reward(completions: list[str], index: list[int], question: list[str], answer: list[str], **rest: Any) -> list[float]:
        seen.update(index=index, question=question, answer=answer, rest=sorted(rest))
        return [1.0] * len(completions)

    row = {"question": "48+24?", "answer": "48+24\n#### 72", "index": 3, "completion_ids": "mine"}
    TRLReward(reward).score(from_records([row], instruction="Box it."), ["72"], [[5]])
    assert seen == {
        "index": [3], "question": ["48+24?"], "answer": ["48+24\n#### 72"], "rest": ["completion_ids", "prompts"],
    }  # fmt: skip
