"""The reasoning bandit, one copy and batched: prompts, responses, groups, order, resume."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_of_sb3
from stable_baselines3.common.vec_env import DummyVecEnv

from sppo_rl.envs.reasoning import MathReasoningEnv, MathReasoningVecEnv, Problem, Scorer, Verdict, from_pairs, verify
from sppo_rl.envs.reasoning.bandit import ReasoningTask

PROBLEMS = from_pairs([(f"What is {k}+{k}?", str(2 * k)) for k in range(10)])
WIDTH = 32


def encode(env: Any, texts: list[str], eos: bool = True) -> np.ndarray:
    tokenizer = env.task.tokenizer
    actions = np.full((len(texts), WIDTH), env.task.vocab_size)
    for row, text in zip(actions, texts, strict=True):
        ids = tokenizer.encode(text) + [tokenizer.eos_token_id] * eos
        row[: len(ids)] = ids
    return actions


def right_answers(env: MathReasoningVecEnv, problem_ids: np.ndarray) -> np.ndarray:
    return encode(env, [f"\\boxed{{{env.task.problems[k].answer}}}" for k in problem_ids.ravel()])


@pytest.fixture
def single(tokenizer: Any) -> Iterator[MathReasoningEnv]:
    env = MathReasoningEnv(PROBLEMS, tokenizer, 64, WIDTH, verify)
    yield env
    env.close()


def batch(tokenizer: Any, **options: Any) -> MathReasoningVecEnv:
    return MathReasoningVecEnv(PROBLEMS, tokenizer, 64, WIDTH, verify, **{"num_envs": 4, **options})


@pytest.mark.filterwarnings("ignore:.*render modes:UserWarning", "ignore:.*nested:UserWarning")
def test_passes_the_env_checkers(single: MathReasoningEnv) -> None:
    check_env(single, skip_render_check=True)
    check_env_of_sb3(single)


def test_contract_of_one_copy(single: MathReasoningEnv) -> None:
    vocabulary = len(single.task.tokenizer)
    assert set(single.observation_space.spaces) == {"prompt_ids", "prompt_len", "problem_id"}  # type: ignore[attr-defined]
    assert single.action_space.nvec.tolist() == [vocabulary + 1] * WIDTH  # type: ignore[attr-defined]
    observation, info = single.reset(seed=3)
    problem = single.task.problems[int(observation["problem_id"][0])]
    length = int(observation["prompt_len"][0])
    assert single.task.tokenizer.decode(observation["prompt_ids"][:length].tolist()) == problem.prompt
    assert (observation["prompt_ids"][length:] == single.task.pad).all()
    action = encode(single, [f"It is \\boxed{{{problem.answer}}}"])[0]
    _, reward, terminated, truncated, info = single.step(action)
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["text"] == f"It is \\boxed{{{problem.answer}}}"
    assert info["extracted"] == problem.answer
    assert info["reason"] == "correct"
    assert info["is_success"] is True
    assert info["response_truncated"] is False
    assert info["context_id"] == observation["problem_id"][0]
    assert info["response_tokens"] == len(info["text"]) + 1
    assert info["prompt_tokens"] == length
    with pytest.raises(RuntimeError, match="before reset"):
        single.step(action)


def test_wrong_truncated_and_babbling_responses(tokenizer: Any) -> None:
    env = batch(tokenizer, shuffle=False)
    env.reset_subset(np.arange(4), [None] * 4)
    actions = encode(env, [r"\boxed{1}", r"\boxed{2}", "I give up", r"\boxed{6}"], eos=False)
    # three fill the budget; a policy that knows no padding goes on behind its end
    actions[:3] = np.where(actions[:3] == env.task.vocab_size, tokenizer.ids["."], actions[:3])
    actions[3, len(r"\boxed{6}") :] = tokenizer.ids["!"]
    actions[3, len(r"\boxed{6}")] = tokenizer.eos_token_id
    _, rewards, dones, infos = env.step_subset(np.arange(4), actions)
    assert rewards.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert dones.all()
    assert [info["reason"] for info in infos] == ["wrong", "correct", "no_box", "correct"]
    assert [info["response_truncated"] for info in infos] == [True, True, True, True]
    assert infos[3]["text"] == r"\boxed{6}"
    # nothing but padding is an empty response; random actions are judged like any other
    env.reset_subset(np.arange(4), [None] * 4)
    empty = np.full((4, WIDTH), env.task.vocab_size)
    assert env.step_subset(np.arange(4), empty)[3][0]["response_tokens"] == 0
    env.reset()
    env.step(np.stack([env.action_space.sample() for _ in range(4)]))


def test_a_response_is_finished_when_padding_follows_whatever_token_ended_it(tokenizer: Any) -> None:
    """A policy may end its turn with another token than the tokenizer's, for which that one is a token like any other."""
    turn_end = len(tokenizer)
    task = ReasoningTask(PROBLEMS, tokenizer, 64, 4, lambda response, gold: float(response == "ab"), vocab_size=turn_end + 1)
    a, b, eos, padding = tokenizer.ids["a"], tokenizer.ids["b"], tokenizer.eos_token_id, task.vocab_size
    rows = [[a, b, turn_end, padding], [a, eos, b, padding], [a, b, a, turn_end], [a, b, a, eos], [padding] * 4]
    _, infos = task.judge(range(5), np.array(rows))
    assert [info["response_truncated"] for info in infos] == [False, False, True, False, True]
    assert [info["text"] for info in infos] == ["ab", "ab", "aba", "aba", ""]
    assert [info["response_tokens"] for info in infos] == [3, 3, 4, 4, 0]
    knowing = ReasoningTask(PROBLEMS, tokenizer, 64, 4, verify, vocab_size=turn_end + 1, ends=[turn_end])
    infos = knowing.judge(range(2), np.array(rows[2:4]))[1]
    assert [info["response_truncated"] for info in infos] == [False, True]


@pytest.mark.parametrize(
    ("prompt", "response", "reason"),
    [
        ("2+3?<think>\n", r"maybe \boxed{5}? wait", "box_inside_thinking"),
        ("2+3?<think>\n", r"\boxed{4}</think> \boxed{5}", "correct"),
        ("2+3?<think>\n", r"<think>hm</think> \boxed{5}", "correct"),
        ("Begin with <think>. 2+3?", r"so \boxed{5}", "correct"),
        ("2+3?<think>\n\n</think>\n", r"so \boxed{5}", "correct"),
    ],
)
def test_a_thought_that_the_prompt_begins_is_one(tokenizer: Any, prompt: str, response: str, reason: str) -> None:
    """Chat templates of DeepSeek-R1 end with ``<think>``: a box in a thought that was cut off is no answer."""
    env = MathReasoningEnv([Problem(prompt, "5", "0")], tokenizer, 64, WIDTH, verify)
    env.reset()
    _, reward, _, _, info = env.step(encode(env, [response])[0])
    assert (info["reason"], reward) == (reason, float(reason == "correct"))
    assert info["text"] == response


def test_gold_answers_are_in_no_observation(tokenizer: Any) -> None:
    problems = [Problem("Say it.", "31337", str(k)) for k in range(4)]
    env = MathReasoningVecEnv(problems, tokenizer, 64, WIDTH, verify, num_envs=4)
    observation = env.reset()
    text = "".join(tokenizer.decode(row.tolist(), skip_special_tokens=True) for row in observation["prompt_ids"])
    assert "31337" not in text
    assert 31337 not in observation["problem_id"]
    assert set(observation) == {"prompt_ids", "prompt_len", "problem_id"}


def test_each_pass_poses_every_problem_once(tokenizer: Any) -> None:
    env = batch(tokenizer, num_envs=5)
    seeds = np.random.default_rng(0).integers(1 << 31, size=(6, 5))
    passes = [env.reset_subset(np.arange(5), row.tolist())["problem_id"].ravel().tolist() for row in seeds]
    orders = [tuple(passes[2 * k] + passes[2 * k + 1]) for k in range(3)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 3


def test_equal_seeds_share_a_prompt(tokenizer: Any) -> None:
    """What groups and ReMax's greedy roll-out rest on: the core repeats a seed for episodes that must start alike."""
    env = batch(tokenizer, num_envs=8)
    first = env.reset_subset(np.arange(8), [11, 11, 22, 22, 33, 33, 11, 22])["problem_id"].ravel()
    assert first[0] == first[1] == first[6]
    assert first[2] == first[3] == first[7]
    assert first[4] == first[5]
    assert len(set(first.tolist())) == 3
    greedy = env.reset_subset(np.arange(3), [11, 22, 33])["problem_id"].ravel()
    assert greedy.tolist() == [first[0], first[2], first[4]]


def test_groups_of_consecutive_copies(tokenizer: Any) -> None:
    env = batch(tokenizer, num_envs=6, group_size=3)
    for _ in range(7):
        ids = env.reset()["problem_id"].ravel()
        assert ids[:3].tolist() == [ids[0]] * 3
        assert ids[3:].tolist() == [ids[3]] * 3
    # also when the copies of a group are reset one after the other
    parts = [env.reset_subset(np.array([copy]), [None])["problem_id"][0, 0] for copy in (4, 0, 5, 3, 1, 2)]
    assert parts[1] == parts[4] == parts[5]
    assert parts[0] == parts[2] == parts[3]
    assert not env._group_problems
    seeded = env.reset_subset(np.arange(6), [1, 2, 3, 4, 5, 6])["problem_id"].ravel()
    assert len(set(seeded[:3].tolist())) == len(set(seeded[3:].tolist())) == 1
    with pytest.raises(ValueError, match="multiple of group_size"):
        batch(tokenizer, num_envs=5, group_size=2)


def test_sb3_stepping(tokenizer: Any) -> None:
    env = batch(tokenizer)
    env.seed(5)
    observation = env.reset()
    seen = observation["problem_id"].ravel().tolist()
    for _ in range(4):
        before = observation["problem_id"].copy()
        observation, rewards, dones, infos = env.step(right_answers(env, before))
        assert rewards.tolist() == [1.0] * 4
        assert dones.all()
        assert [info["terminal_observation"]["problem_id"][0] for info in infos] == before.ravel().tolist()
        assert all(info["episode"] == {"r": 1.0, "l": 1, "t": 0.0} for info in infos)
        seen += observation["problem_id"].ravel().tolist()
    assert Counter(seen[:20]) == dict.fromkeys(range(10), 2)
    env.seed(5)
    assert env.reset()["problem_id"].ravel().tolist() == seen[:4]
    env.seed(6)
    assert env.reset()["problem_id"].ravel().tolist() != seen[:4]


def test_one_copy_is_deterministic_under_a_seed(single: MathReasoningEnv) -> None:
    def order(seed: int) -> list[int]:
        first = int(single.reset(seed=seed)[0]["problem_id"][0])
        return [first] + [int(single.reset()[0]["problem_id"][0]) for _ in range(9)]

    assert order(1) == order(1) != order(2)
    assert sorted(order(3)) == list(range(10))
    assert int(single.reset(options={"problem": 7})[0]["problem_id"][0]) == 7


@pytest.mark.parametrize("problem", [-1, 10])
def test_a_problem_that_is_not_there_is_named(single: MathReasoningEnv, problem: int) -> None:
    with pytest.raises(ValueError, match=rf"options\['problem'\] must lie between 0 and 9, got {problem}"):
        single.reset(options={"problem": problem})


@pytest.mark.parametrize("beyond", [-1, 1])
def test_what_is_no_token_is_named(single: MathReasoningEnv, tokenizer: Any, beyond: int) -> None:
    token = -1 if beyond < 0 else len(tokenizer) + beyond
    single.reset(seed=0)
    with pytest.raises(
        ValueError, match=rf"token ids from 0 to {len(tokenizer) - 1}, or {len(tokenizer)} for padding; got {token}"
    ):
        single.step(np.full(WIDTH, token))


@pytest.mark.parametrize("group_size", [1, 2])
def test_state_goes_on_exactly(tokenizer: Any, group_size: int) -> None:
    rng = np.random.default_rng(0)

    def play(env: MathReasoningVecEnv, seeds: np.ndarray) -> list[list[int]]:
        return [env.reset_subset(np.arange(4), row.tolist())["problem_id"].ravel().tolist() for row in seeds] + [
            env.reset()["problem_id"].ravel().tolist() for _ in range(3)
        ]

    seeds = rng.integers(1 << 31, size=(8, 4))
    straight = batch(tokenizer, group_size=group_size, seed=9)
    play(straight, seeds[:4])
    straight.reset_subset(np.array([1]), [None])
    state = pickle.loads(pickle.dumps(straight.get_state()))
    assert json.loads(json.dumps(state)) == state
    # a seed from before the checkpoint still names its problem
    later = np.concatenate([seeds[4:], seeds[3:4]])
    expected = play(straight, later)
    resumed = batch(tokenizer, group_size=group_size)
    resumed.set_state(state)
    assert play(resumed, later) == expected
    with pytest.raises(ValueError, match="belongs to 4 copies"):
        batch(tokenizer, num_envs=2, group_size=group_size).set_state(state)


def test_state_of_other_problems_is_refused(tokenizer: Any, single: MathReasoningEnv) -> None:
    other = MathReasoningEnv(PROBLEMS[:5], tokenizer, 64, WIDTH, verify)
    with pytest.raises(ValueError, match="belongs to 10 problems"):
        other.set_state(single.get_state())
    single.reset(seed=4)
    state = single.get_state()
    expected = [int(single.reset()[0]["problem_id"][0]) for _ in range(12)]
    single.set_state(state)
    assert [int(single.reset()[0]["problem_id"][0]) for _ in range(12)] == expected


def test_long_prompts_are_dropped_and_counted(tokenizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    problems = [*PROBLEMS, Problem("x" * 65, "1", "long"), Problem("y" * 64, "1", "fits")]
    env = MathReasoningVecEnv(problems, tokenizer, 64, WIDTH, verify, num_envs=2)
    assert env.task.dropped == 1
    assert len(env.task.problems) == 11
    assert "1 of 12 problems dropped" in caplog.text
    assert env.task.observe([10])["prompt_len"][0, 0] == 64
    with pytest.raises(ValueError, match="None of 12 problems fits into max_prompt_tokens=3; the shortest has 12"):
        MathReasoningEnv(problems, tokenizer, 3, WIDTH, verify)
    with pytest.raises(ValueError, match="No problems"):
        MathReasoningEnv([], tokenizer, 3, WIDTH, verify)
    with pytest.raises(ValueError, match="at least 1, got 64 and 0"):
        MathReasoningEnv(problems, tokenizer, 64, 0, verify)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ([PROBLEMS[0], ("1+1?", "2"), "a third"], r"problems\[1\] is the tuple \"\('1\+1\?', '2'\)\""),
        ([PROBLEMS[0], {"problem": "1+1?", "answer": "2"}], r"problems\[1\] is the dict \"{'problem': '1\+1\?'"),
        (["1+1?", "1+2?"], r"problems\[0\] is the str '1\+1\?'"),
    ],
    ids=["tuple", "dict", "text"],
)
@pytest.mark.parametrize("kind", [MathReasoningEnv, MathReasoningVecEnv])
def test_what_is_no_problem_is_named(tokenizer: Any, kind: Any, given: Any, shown: str) -> None:
    with pytest.raises(TypeError, match=shown):
        kind(given, tokenizer, 64, WIDTH, verify)


@pytest.mark.parametrize("kind", [MathReasoningEnv, MathReasoningVecEnv])
def test_pairs_and_rows_are_problems(tokenizer: Any, kind: Any) -> None:
    pairs = [("1+1?", "2"), ("1+2?", "3")]
    expected = kind(from_pairs(pairs), tokenizer, 64, WIDTH, verify).task
    for given in (pairs, [list(pair) for pair in pairs], [{"problem": problem, "answer": gold} for problem, gold in pairs]):
        task = kind(given, tokenizer, 64, WIDTH, verify).task
        assert task.encoded == expected.encoded
        assert [problem.answer for problem in task.problems] == ["2", "3"]


def test_one_pooled_call_for_a_batch(tokenizer: Any) -> None:
    calls: list[int] = []

    class Batched(Scorer):
        def score(self, problems: Any, responses: Any, response_ids: Any) -> list[Verdict]:
            calls.append(len(responses))
            return [Verdict(1.0, "correct")] * len(responses)

    env = MathReasoningVecEnv(PROBLEMS, tokenizer, 64, WIDTH, Batched(), num_envs=16)
    env.reset()
    env.step(encode(env, ["hm"] * 16))
    assert calls == [16]


def test_default_verifier_is_a_pool(tokenizer: Any) -> None:
    env = MathReasoningVecEnv(PROBLEMS, tokenizer, 64, WIDTH, num_envs=4)
    try:
        observation = env.reset()
        golds = [env.task.problems[k].answer for k in observation["problem_id"].ravel()]
        actions = encode(env, [f"\\boxed{{\\frac{{{2 * int(gold)}}}{{2}}}}" for gold in golds])
        assert env.step(actions)[1].tolist() == [1.0] * 4
    finally:
        env.close()


def test_in_sb3s_own_vec_env(tokenizer: Any) -> None:
    env = DummyVecEnv([lambda: MathReasoningEnv(PROBLEMS, tokenizer, 64, WIDTH, verify) for _ in range(2)])
    env.seed(1)
    observation = env.reset()
    actions = np.full((2, WIDTH), len(tokenizer))
    _, rewards, dones, infos = env.step(actions)
    assert rewards.tolist() == [0.0, 0.0]
    assert dones.all()
    assert not any(info["TimeLimit.truncated"] for info in infos)
    assert observation["prompt_ids"].shape == (2, 64)


def test_padded_output_layer(tokenizer: Any) -> None:
    """A model may emit ids that its tokenizer does not know: they are part of the response and stand for no text."""
    env = MathReasoningVecEnv(PROBLEMS, tokenizer, 64, WIDTH, verify, num_envs=1, vocab_size=128)
    assert env.action_space.nvec[0] == 129  # type: ignore[attr-defined]
    observation = env.reset()
    action = encode(env, [f"\\boxed{{{env.task.problems[int(observation['problem_id'][0, 0])].answer}}}"])
    action[0, 1:] = np.concatenate([[120], action[0, 1:-1]])
    _, rewards, _, infos = env.step(action)
    assert infos[0]["text"].startswith("\\boxed")
    assert rewards[0] == 1.0
    assert infos[0]["response_tokens"] == len(infos[0]["text"]) + 2


def test_problems_that_nobody_answered_are_dealt_again(tokenizer: Any) -> None:
    """``learn()`` resets before the algorithm does; a pass over the data still poses every problem once."""
    env = batch(tokenizer, num_envs=5)
    first = env.reset()["problem_id"].ravel().tolist()
    assert env.reset()["problem_id"].ravel().tolist() == first
    seeded = env.reset_subset(np.arange(5), [70, 71, 72, 73, 74])["problem_id"].ravel()
    assert seeded.tolist() == first
    env.step_subset(np.arange(5), right_answers(env, seeded))
    second = env.reset_subset(np.arange(5), [80, 81, 82, 83, 84])["problem_id"].ravel().tolist()
    assert sorted(first + second) == list(range(10))
    env.step_subset(np.arange(5), right_answers(env, np.array(second)))
    # an answered problem is not taken back, and seeds that were seen get theirs again
    assert env.reset_subset(np.arange(5), [80, 81, 82, 83, 84])["problem_id"].ravel().tolist() == second
    env.close()


def test_fewer_episodes_than_copies_pose_every_problem_of_a_pass(tokenizer: Any) -> None:
    env = batch(tokenizer, num_envs=4)
    env.reset()
    posed = []
    for seed in range(0, 10, 2):
        problems = env.reset_subset(np.arange(2), [seed, seed + 1])["problem_id"].ravel()
        posed += problems.tolist()
        env.step_subset(np.arange(2), right_answers(env, problems))
    assert sorted(posed) == list(range(10))
    env.close()
