"""Rewards of a user's own in a configuration: the three signatures, what names them, and where they count."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("transformers", reason="needs the [llm] extra")

from sppo_rl.envs.reasoning import from_records
from sppo_rl.zoo.language.check import check
from sppo_rl.zoo.language.config import change, config_of, load_config
from sppo_rl.zoo.language.reward import load_reward
from sppo_rl.zoo.language.runs import make_envs
from sppo_rl.zoo.names import UsageError

REWARDS = """
from __future__ import annotations
from dataclasses import dataclass
import beside

@dataclass
class Weights:
    whole: float = beside.WHOLE

def by_length(response, gold):
    return Weights().whole * min(len(response) / 4.0, 1.0) if gold == "3" else 0.0

def like_trl(prompts, completions, answer, **columns):
    return [0.5 * (completion == gold) for completion, gold in zip(completions, answer)]

def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": 0.25 if (data_source, solution_str, ground_truth, extra_info) == ("made", "ab", "3", {"k": 7}) else 0.0}

def alone(response):
    return 1.0

number = 3
"""
PROBLEMS = from_records([{"prompt": "1+2=", "answer": "3", "data_source": "made", "extra_info": {"k": 7}}])


@pytest.fixture
def rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "beside.py").write_text("WHOLE = 1.0", encoding="utf-8")
    (tmp_path / "my_rewards.py").write_text(REWARDS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "my_rewards.py"


@pytest.mark.parametrize("where", ["my_rewards.py", "my_rewards"])
def test_a_function_is_called_as_its_signature_says(rewards: str, where: str) -> None:
    def score(function: str, response: str) -> float:
        return load_reward(f"{where}:{function}").score(PROBLEMS, [response], [[5, 6]])[0].score

    assert [score("by_length", response) for response in ("a", "ab", "abcdef")] == [0.25, 0.5, 1.0]
    assert [score("like_trl", response) for response in ("3", "4")] == [0.5, 0.0]
    assert [score("compute_score", response) for response in ("ab", "a")] == [0.25, 0.0]


def test_the_lenient_verifier() -> None:
    strict, lenient = "The answer is 3.", load_reward("lenient")
    try:
        assert lenient.score(PROBLEMS, [strict], [[5]])[0].score == 1.0
    finally:
        lenient.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("strict", r"reward is 'lenient', or a function.*got 'strict'"),
        ("my_rewards.py", r"got 'my_rewards.py'"),
        ("none.py:f", r"none.py, and there is no such file"),
        ("my_rewards.py:by_lenght", r"no function 'by_lenght'. Did you mean 'by_length'"),
        ("my_rewards.py:alone", r"alone\(response\) is called with \(response, gold\), and too many positional arguments"),
        ("my_rewards.py:number", r"no function 'number'"),
        ("no_such_package.rewards:f", r"no_such_package.rewards cannot be imported: ModuleNotFoundError"),
        ("broken.py:f", r"broken.py cannot be imported: ZeroDivisionError"),
    ],
)
def test_what_cannot_be_is_said(rewards: str, name: str, message: str) -> None:
    Path("broken.py").write_text("1 / 0", encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        check(change(load_config("chain_sum_tiny"), None, {"reward": name}))


def test_training_is_rewarded_with_it_and_evaluation_is_not(rewards: str) -> None:
    config = replace(load_config("chain_sum_tiny"), reward=f"{rewards}:by_length")
    small = {"source": "chain_sum", "size": 4, "seed": 1}
    held_out = {**small, "held_out": True}
    config = replace(config, problems=small, evaluation=replace(config.evaluation, problems=held_out))
    env, evaluation = make_envs(config)
    try:
        for task, expected in ((env.task, 0.0), (evaluation.task, 1.0)):
            # right, but not by the rule of the reward, for which only '3' counts
            text = f"\\boxed{{{task.problems[0].answer}}}"
            response = np.full((1, config.max_new_tokens), task.vocab_size)
            ids = [*task.tokenizer.encode(text), task.eos]
            response[0, : len(ids)] = ids
            assert task.judge([0], response)[0].tolist() == [expected]
    finally:
        env.close()
        evaluation.close()


def test_it_is_written_down_where_it_was_chosen() -> None:
    config = load_config("chain_sum_tiny")
    assert "reward" not in config.as_dict(), "runs that were made before there was a choice are resumed"
    chosen = replace(config, reward="lenient").as_dict()
    assert chosen["reward"] == "lenient"
    assert config_of(chosen).reward == "lenient"


def test_partial_credit_of_the_study_of_soft_rewards() -> None:
    repository = Path(__file__).resolve().parents[3]
    scorer = load_reward(f"{repository / 'benchmarks' / 'language' / 'partial_credit.py'}:partial_credit")
    problems = from_records([{"prompt": "38+12-65+1=", "answer": "-14"}])
    steps = ["38+12:8+2=10,3+1+1=5>50;", "50-65:65-50:5-0=5,6-5=1>-15;", "-15+1:15-1:5-1=4,1-0=1>-14;"]
    responses = {
        "".join(steps) + "\\boxed{-14}": 1.0,
        "\\boxed{-14}": 1.0,
        "".join(steps) + "\\boxed{14}": 0.5,  # all three totals, another answer
        "".join(steps[:2]): 0.5 * 2 / 3,
        steps[1] + steps[0]: 0.0,  # the first total is not 50
        "": 0.0,
    }
    verdicts = scorer.score(problems * len(responses), list(responses), [[]] * len(responses))
    assert [verdict.score for verdict in verdicts] == pytest.approx(list(responses.values()))
