"""Benchmarks and tables of completions during training: right figures, and training as it would have been without them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

pytest.importorskip("transformers", reason="needs the [llm] extra")

from stable_baselines3.common.logger import configure
from transformers import AutoModelForCausalLM

from sppo_rl import GRPO, PPO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs
from sppo_rl.llm import PromptCritic
from sppo_rl.llm.benchmarking import read_completions
from sppo_rl.llm.callbacks import BenchmarkCallback, CompletionsCallback
from tests.helpers import spy
from tests.llm.conftest import TOKENIZER, echo_env, make_tokenizer, tiny_config

HELD_OUT = from_pairs([(f"{'cba'[: number % 4]}{number}?", str(number)) for number in range(8)])


def make(algorithm: type[SequenceAlgorithm] = SPPO, env: Any = None, **options: Any) -> SequenceAlgorithm:
    settings = {"policy_kwargs": {"model": tiny_config(16, 1)}, **options}
    return algorithm(
        "TransformerPolicy",
        echo_env() if env is None else env,
        learning_rate=1e-3,
        n_episodes=16,
        batch_size=8,
        n_epochs=1,
        seed=0,
        device="cpu",
        **settings,
    )


def low_digit(response: str, gold: str) -> float:
    """Right is a response with a digit up to the gold one: now and then so for a random model, more often for higher golds."""
    return float(any(digit in response for digit in "01234567"[: int(gold) + 1]))


def benchmark(folder: Path | None = None, **options: Any) -> BenchmarkCallback:
    return BenchmarkCallback(HELD_OUT, **{"k": 4, "every": 32, "folder": folder, "verifier": low_digit, **options})


def weights(model: SequenceAlgorithm) -> th.Tensor:
    return th.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def test_training_is_what_it_would_have_been_without_callbacks(tmp_path: Path) -> None:
    watched, alone = make(), make()
    watched.learn(64, callback=[benchmark(tmp_path), CompletionsCallback(every=16, folder=tmp_path)])
    alone.learn(64)
    assert th.equal(weights(watched), weights(alone))


def test_figures_are_those_of_the_completions(tmp_path: Path) -> None:
    callback = benchmark(tmp_path)
    make().learn(64, callback=callback)
    assert [row["timesteps"] for row in callback.rows] == [0, 32, 64]
    assert callback.rows == [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    for row in callback.rows:
        records = read_completions(tmp_path / f"completions-{row['timesteps']}.jsonl")
        scores = np.array([record["score"] for record in records]).reshape(8, 4)
        assert [(r["problem"], r["sample"]) for r in records] == [(str(p), s) for p in range(8) for s in range(4)]
        assert row["avg@4"] == pytest.approx(scores.mean())
        assert row["pass@4"] == pytest.approx(scores.max(axis=1).mean())
        assert row["response_length"] == pytest.approx(np.mean([record["tokens"] for record in records]))
        assert row["truncated"] == pytest.approx(np.mean([record["truncated"] for record in records]))
    assert len({row["avg@4"] for row in callback.rows}) > 1, "or the policy never changed"


def test_best_export_is_the_policy_that_scored_best(tmp_path: Path) -> None:
    """Scores are made up here: the second of three evaluations is the best."""
    model, seen = make(), []
    made_up = iter([0.1, 0.9, 0.5])

    class Scripted(BenchmarkCallback):
        def _evaluate(self) -> None:
            value = next(made_up)
            self.tasks[""].scorer.function = lambda response, gold: value  # type: ignore[attr-defined]
            seen.append({name: tensor.clone() for name, tensor in model.policy.model.state_dict().items()})
            super()._evaluate()

    model.learn(64, callback=Scripted(HELD_OUT, k=1, every=32, folder=tmp_path, verifier=low_digit))
    best = AutoModelForCausalLM.from_pretrained(tmp_path / "best" / "policy", dtype=th.float32).state_dict()
    assert all(th.equal(best[name], tensor) for name, tensor in seen[1].items())
    assert not all(th.equal(best[name], tensor) for name, tensor in seen[2].items())
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["best"]


def test_the_critics_figures_are_its_predictions_against_avg_at_k(tmp_path: Path) -> None:
    callback = benchmark(tmp_path, every=1000)
    model = make(critic_learning_rate=1e-2)
    model.learn(96, callback=callback)
    row = callback.rows[-1]
    model.policy.export(tmp_path / "end")
    predicted = PromptCritic.load(tmp_path / "end" / "critic").predict_solvability(
        [TOKENIZER.encode(str(problem.prompt)) for problem in HELD_OUT]
    )
    scores = np.array([r["score"] for r in read_completions(tmp_path / "completions-96.jsonl")]).reshape(8, 4)
    assert row["critic_pearson"] == pytest.approx(np.corrcoef(predicted, scores.mean(axis=1))[0, 1], abs=1e-5)
    assert row["critic_brier"] == pytest.approx(((predicted[:, None] - scores) ** 2).mean(), abs=1e-6)
    lengths = [len(str(problem.prompt)) for problem in HELD_OUT]
    assert row["length_pearson"] == pytest.approx(-np.corrcoef(lengths, scores.mean(axis=1))[0, 1])


@pytest.mark.parametrize(("algorithm", "options"), [(GRPO, {"group_size": 4}), (PPO, {"critic_loss": "mse"})])
def test_algorithms_without_a_probability_have_no_calibration(
    algorithm: type[SequenceAlgorithm], options: dict[str, Any], tmp_path: Path
) -> None:
    callback = benchmark(tmp_path)
    make(algorithm, **options).learn(32, callback=callback)
    assert not any(name.startswith("critic") for name in callback.rows[-1])
    assert (tmp_path / "best" / "policy" / "config.json").is_file()
    assert not (tmp_path / "best" / "critic").exists()


def test_several_sets_have_keys_of_their_own(tmp_path: Path) -> None:
    sets = {"small": HELD_OUT[:2], "large": HELD_OUT[2:]}
    callback = BenchmarkCallback(sets, k=4, every=1000, folder=tmp_path, verifier=low_digit)
    make().learn(16, callback=callback)
    row = callback.rows[-1]
    assert row["avg@4"] == pytest.approx((row["avg@4_small"] + row["avg@4_large"]) / 2)
    assert len(read_completions(tmp_path / "completions-16-large.jsonl")) == 24


def test_a_run_that_goes_on_goes_on_with_its_files(tmp_path: Path) -> None:
    whole = [benchmark(tmp_path / "whole"), CompletionsCallback(every=32, folder=tmp_path / "whole")]
    make().learn(96, callback=whole)
    model = make()
    model.learn(64, callback=[benchmark(tmp_path / "parts"), CompletionsCallback(every=32, folder=tmp_path / "parts")])
    # as a kill would: something written after the moment from which the run goes on, and half a line
    for name in ("evaluations.jsonl", "completions.jsonl"):
        with (tmp_path / "parts" / name).open("a") as file:
            file.write(json.dumps({"timesteps": 80, "avg@4": 9.0}) + "\n" + '{"timesteps": 8')
    again = [benchmark(tmp_path / "parts"), CompletionsCallback(every=32, folder=tmp_path / "parts")]
    model.learn(32, callback=again, reset_num_timesteps=False)
    steps = [row["timesteps"] for row in again[0].rows]  # type: ignore[attr-defined]
    assert steps == [0, 32, 64, 96]
    for name in ("evaluations.jsonl", "completions.jsonl"):
        parts, one = (read_completions(tmp_path / folder / name) for folder in ("parts", "whole"))
        assert [row["timesteps"] for row in parts] == [row["timesteps"] for row in one]
        assert parts[0] == one[0]


@pytest.mark.parametrize("algorithm", [SPPO, ReMax])
def test_completions_are_those_of_the_update(algorithm: type[SequenceAlgorithm], tmp_path: Path) -> None:
    model = make(algorithm)
    callback = CompletionsCallback(every=1, folder=tmp_path)
    batches = spy(model)
    model.learn(16 * (2 if algorithm is ReMax else 1), callback=callback)
    (batch,) = batches
    assert len(callback.last) == 16, "greedy responses are no part of it"
    found = sorted((record["prompt"], record["tokens"], record["outcome"]) for record in callback.last)
    prompts = [
        "".join(TOKENIZER.decode(ids[:n]))
        for ids, n in zip(batch.contexts["prompt_ids"].tolist(), batch.contexts["prompt_len"].flatten().tolist(), strict=True)
    ]
    assert found == sorted(zip(prompts, batch.mask.sum(dim=1).tolist(), batch.outcome.tolist(), strict=True))
    if algorithm is SPPO:
        values = dict(zip(prompts, batch.values.tolist(), strict=True))
        assert all(record["value"] == values[record["prompt"]] for record in callback.last)
    else:
        assert {record["value"] for record in callback.last} == {None}
    assert read_completions(tmp_path / "completions.jsonl") == callback.last


def test_tensorboard_and_console_get_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard", reason="needs the [zoo] extra")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    model = make()
    model.set_logger(configure(str(tmp_path / "log"), ["tensorboard"]))
    callback = CompletionsCallback(every=1000, rows=2, verbose=1)
    model.learn(32, callback=callback)
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    (tag,) = [tag for tag in events.Tags()["tensors"] if tag.startswith("completions")]
    (event,) = events.Tensors(tag)
    lines = event.tensor_proto.string_val[0].decode().splitlines()
    assert len(lines) == 4
    assert [line.count("|") for line in lines] == [5] * 4
    printed = capsys.readouterr().out
    assert "Completions after 16 responses" in printed
    assert callback.last[0]["prompt"] in printed


def test_adapters_are_merged_into_the_weights_that_a_benchmark_hands_over() -> None:
    """The in-process generator does not look at them; vLLM refuses other names than those of the checkpoint."""
    model = make(policy_kwargs={"model": tiny_config(16, 1), "lora": {"r": 2, "target_modules": ["q_proj"]}})
    policy: Any = model.policy
    plain = {name for name, _ in AutoModelForCausalLM.from_config(tiny_config(16, 1)).named_parameters()}
    given: list[set[str]] = []
    sync = policy.generator.sync_weights

    def recording(named_parameters: Any, version: int) -> None:
        given.append({name for name, _ in named_parameters})
        sync([], version)

    policy.generator.sync_weights = recording
    model.learn(16, callback=benchmark())
    assert len(given) == 3, "before and after training, and for a collection"
    assert all(names == plain for names in given)


def test_held_out_prompts_are_encoded_as_those_of_training(tmp_path: Path) -> None:
    """An environment that leaves the chat template out: so do benchmarks and the critic, also one that was exported."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}abc{{ message['content'] }}=?{% endfor %}"
    env = MathReasoningEnv(HELD_OUT, tokenizer, 8, 2, low_digit, use_chat_template=False)
    model = make(env=env)
    callback = benchmark(tmp_path)
    model.learn(16, callback=callback)
    assert callback.tasks[""].encoded == env.task.encoded == [tokenizer.encode(p.prompt) for p in HELD_OUT]
    critics: Any = [model.policy.critic, PromptCritic.load(tmp_path / "best" / "critic")]  # type: ignore[attr-defined]
    model.save(tmp_path / "model")
    critics.append(SPPO.load(tmp_path / "model", device="cpu").policy.critic)  # type: ignore[attr-defined]
    for critic in critics:
        with th.no_grad():
            critic.head.weight.normal_()
        as_text = critic.predict_solvability([str(problem.prompt) for problem in HELD_OUT])
        np.testing.assert_array_equal(as_text, critic.predict_solvability(env.task.encoded))
        assert critic.predict_solvability(str(HELD_OUT[0].prompt)).tolist() == as_text[:1].tolist()
        assert len(set(as_text.tolist())) == len(HELD_OUT)
        in_chat = critic.predict_solvability([[{"role": "user", "content": "1?"}]])
        np.testing.assert_array_equal(in_chat, critic.predict_solvability([tokenizer.encode("abc1?=?")]))


def test_markup_in_a_response_breaks_no_table() -> None:
    from sppo_rl.llm.callbacks import _markdown

    record = {"prompt": "a|b", "response": "<b>x\n| y", "outcome": 1.0, "reason": "correct", "value": None}
    (_, _, line) = _markdown([record]).splitlines()
    assert line == "| a&#124;b | &lt;b&gt;x<br>&#124; y | 1 (correct) | – |"


@pytest.mark.parametrize("wrong", [{"k": 0}, {"every": 0}, {"batch_size": 0}, {"temperature": 0.0}])
def test_numbers_must_be_positive(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* (at least 1|above 0), got"):
        benchmark(**wrong)


def test_a_table_on_the_console_needs_rich_before_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"needs rich: pip install 'sppo-rl\[zoo\]'"):
        CompletionsCallback(verbose=1)
    CompletionsCallback()
