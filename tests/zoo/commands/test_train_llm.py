"""``sppo-rl train-llm`` end to end on a tiny budget: what it writes, that it resumes bit for bit, and the demo's language part."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("transformers", reason="needs the [llm] extra")

import torch as th
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer

from sppo_rl import GRPO, RLOO, ReMax
from sppo_rl.callbacks import read_evaluations
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint
from sppo_rl.envs.reasoning import MathReasoningEnv, from_pairs
from sppo_rl.llm import PromptCritic
from sppo_rl.zoo.cli import main
from sppo_rl.zoo.commands.demo_language import demo_config, exchanges, language
from sppo_rl.zoo.language import runs as language_runs
from sppo_rl.zoo.language.chains import chain_problems
from sppo_rl.zoo.language.config import LanguageConfig, change, config_of, load_config
from sppo_rl.zoo.language.evaluation import ResponseEvaluation
from sppo_rl.zoo.language.prior import SHIPPED
from tests.killed import KillAt, Killed
from tests.resuming import assert_identical, everything

COLUMNS = "episodes,timesteps,seconds,success,greedy_success,mean_return,mean_length,greedy_mean_return,greedy_mean_length,prompts,tokens"
SETTINGS: dict[str, Any] = {
    "responses": 96,
    "model": "chain_sum_tiny",
    "max_prompt_tokens": 18,
    "max_new_tokens": 24,
    "hyperparameters": {
        "n_episodes": 16,
        "batch_size": 8,
        "n_epochs": 1,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "critic_init": "first_batch",
    },
    "algorithms": {"grpo": {"group_size": 8}, "rloo": {"group_size": 4}, "ppo-bce": {"critic_loss": "bce"}, "ppo": {"critic_init": None}},
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _problems(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The problems of the shipped configuration, from files: these are judged without a worker that imports reasoning_gym for seconds."""
    folder = tmp_path_factory.mktemp("problems")
    # fewer problems than responses: the cursor goes over into a second pass
    for name, problems in (("train", chain_problems(40, 1)), ("test", chain_problems(8, 2, held_out=True))):
        lines = [json.dumps({"question": problem.prompt, "answer": problem.answer}) + "\n" for problem in problems]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    SETTINGS["problems"] = {"source": "file", "path": str(folder / "train.jsonl")}
    SETTINGS["evaluation"] = {"problems": {"source": "file", "path": str(folder / "test.jsonl")}, "every": 32}


def tiny(**changes: Any) -> LanguageConfig:
    return config_of({**SETTINGS, **changes})


def write(folder: Path) -> Path:
    path = folder / "tiny.yml"
    path.write_text(yaml.safe_dump(SETTINGS))
    return path


def unclocked(path: Path) -> list[dict[str, float]]:
    return [{**row, "seconds": 0} for row in read_evaluations(path / "evaluations.csv")]


def weights(folder: Path) -> bytes:
    return (folder / "policy" / "model.safetensors").read_bytes() + (folder / "critic" / "model.safetensors").read_bytes()


# ------------------------------------------------------------------ one run, from the command line


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command line makes, and what it says."""
    folder = tmp_path_factory.mktemp("trained")
    words = ["train-llm", "--config", str(write(folder)), "--seed", "3", "--threads", "1", "--device", "cpu"]
    with open(folder / "said.txt", "w") as file, contextlib.redirect_stdout(file):
        assert main([*words, "-f", str(folder / "logs")]) == 0
    return folder


def run_of(folder: Path) -> Path:
    return folder / "logs" / "sppo_tiny_1"


def test_the_folder_holds_all_that_is_worth_keeping(trained: Path) -> None:
    folder = run_of(trained)
    expected = "config.yml evaluations.csv table.md plot_tokens.png plot_seconds.png policy critic checkpoints tensorboard_1"
    assert {path.name for path in folder.iterdir()} == set(expected.split())
    header, *lines = (folder / "evaluations.csv").read_text().splitlines()
    assert header == COLUMNS
    rows = read_evaluations(folder / "evaluations.csv")
    assert len(lines) == len(rows)
    assert (
        [row["timesteps"] for row in rows]
        == [row["episodes"] for row in rows]
        == [row["prompts"] for row in rows]
        == [0, 32, 64, 96]
    )
    assert all(0.0 <= row["success"] == row["mean_return"] <= 1.0 for row in rows)
    assert all(1 <= row["mean_length"] <= 24 for row in rows)
    tokens = [row["tokens"] for row in rows]
    assert tokens == sorted(tokens)
    assert 96 < tokens[-1] <= 96 * 24
    settings = yaml.safe_load((folder / "config.yml").read_text())
    assert (settings["seed"], settings["algo"], settings["hyperparameters"]["n_episodes"]) == (3, "sppo", 16)
    config, seed = language_runs.read_config(folder)
    assert (config, seed) == (replace(tiny(), hyperparameters=tiny().constructor_kwargs(), algorithms={}), 3)
    assert list((folder / "tensorboard_1").glob("events*"))


def test_the_table_says_what_the_file_says(trained: Path) -> None:
    rows = read_evaluations(run_of(trained) / "evaluations.csv")
    table = (run_of(trained) / "table.md").read_text()
    assert table in (trained / "said.txt").read_text()
    (line,) = [line for line in table.splitlines() if line.startswith("| SPPO, seed 3 |")]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1].startswith(f"{rows[0]['success']:.3f} [")
    assert cells[2].startswith(f"{rows[-1]['success']:.3f} [")
    assert cells[5:8] == ["96", "96", f"{rows[-1]['tokens']:,}"]


def test_the_exported_policy_is_the_trained_one(trained: Path) -> None:
    """Plain transformers gives the log-probabilities that the newest checkpoint gives."""
    folder, config = run_of(trained), tiny()
    env, held_out = language_runs.make_envs(config)
    model = load_checkpoint(
        type(language_runs.build(config, 0, env, device="cpu")), folder / "checkpoints", env=env, device="cpu"
    )
    assert model is not None
    assert model.num_timesteps == 96
    observations: Any = held_out.reset()
    actions, _ = model.predict(observations, deterministic=True)
    tensors = {name: th.as_tensor(values) for name, values in observations.items()}
    with th.no_grad():
        ours = model.policy.evaluate_decisions(tensors, th.as_tensor(actions))
    actor = AutoModelForCausalLM.from_pretrained(folder / "policy").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder / "policy")
    for row, problem in enumerate(held_out.task.problems):
        prompt = tokenizer.encode(problem.prompt)
        response = [int(token) for token in actions[row] if token < len(tokenizer)]
        with th.no_grad():
            logits = actor(th.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(dim=-1)[range(len(response)), response]
        th.testing.assert_close(ours.log_prob[row, : len(response)], expected, rtol=1e-4, atol=1e-5)
    prompts = [str(problem.prompt) for problem in held_out.task.problems]
    np.testing.assert_allclose(
        PromptCritic.load(folder / "critic").predict_solvability(prompts),
        model.policy.critic.predict_solvability(prompts),
        rtol=1e-5,
    )
    env.close()
    held_out.close()
    # and it is not what training began with
    before = AutoModelForCausalLM.from_pretrained(SHIPPED).state_dict()
    assert not all(th.equal(value, before[name]) for name, value in actor.state_dict().items())


# ------------------------------------------------------------------ exact resume


def test_a_killed_run_ends_as_the_one_that_was_not(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # every second update, so that some work is done twice
    monkeypatch.setattr(language_runs, "CheckpointCallback", lambda folder, every_updates: CheckpointCallback(folder, 2))
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        language_runs.run(tiny(), 3, folder, [KillAt(5)], device="cpu")
    assert not (folder / "table.md").exists()
    before = read_evaluations(folder / "evaluations.csv")
    th.manual_seed(999)  # another process would not have this one's generators
    assert main(["train-llm", "--resume", str(folder), "--device", "cpu", "--threads", "1"]) == 0
    assert "Resumed at 64 responses." in capsys.readouterr().out
    assert weights(folder) == weights(run_of(trained))
    assert unclocked(folder) == unclocked(run_of(trained))
    assert read_evaluations(folder / "evaluations.csv")[: len(before)] == before
    # everything else too, the prompt cursor among it
    ends = []
    for of in (folder, run_of(trained)):
        env, held_out = language_runs.make_envs(tiny())
        ends.append(everything(load_checkpoint(type(language_runs.build(tiny(), 0, env)), of / "checkpoints", env, "cpu")))  # type: ignore[arg-type]
        env.close()
        held_out.close()
    assert_identical(ends[0], ends[1])
    order = ends[0]["environment"]["order"]
    # what SB3's reset deals when learn() begins, the first update is dealt
    assert (order["drawn"], order["count"]) == (96, 40)
    # it is complete now
    assert main(["train-llm", "--resume", str(folder)]) == 1
    assert "is complete; there is nothing to resume" in capsys.readouterr().err


def test_a_run_that_was_killed_before_its_table_gets_one(trained: Path, tmp_path: Path) -> None:
    """All updates are done and checkpointed, and what comes after them is not."""
    folder = tmp_path / "run"
    shutil.copytree(run_of(trained), folder, ignore=shutil.ignore_patterns("policy", "critic", "table.md", "*.png"))
    assert main(["train-llm", "--resume", str(folder), "--device", "cpu"]) == 0
    assert (folder / "table.md").read_text() == (run_of(trained) / "table.md").read_text()
    assert weights(folder) == weights(run_of(trained))
    assert (folder / "evaluations.csv").read_bytes() == (run_of(trained) / "evaluations.csv").read_bytes()


def test_sigkill_from_outside_and_what_a_process_prints(trained: Path, tmp_path: Path) -> None:
    """The process itself, killed in whatever moment it is in; its output goes into a file, as a scheduler's would."""
    folder = tmp_path / "logs" / "sppo_tiny_1"
    command = [sys.executable, "-m", "sppo_rl.zoo.cli", "train-llm", "--device", "cpu", "--threads", "1"]
    begin = ["--config", str(write(tmp_path)), "--seed", "3", "-f", str(tmp_path / "logs")]
    with open(tmp_path / "said.txt", "w") as said, open(tmp_path / "errors.txt", "w") as errors:
        process = subprocess.Popen([*command, *begin], stdout=said, stderr=errors)
        deadline = time.monotonic() + 240
        while not list(folder.glob("checkpoints/checkpoint_*.zip")):
            assert process.poll() is None, (tmp_path / "errors.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (folder / "table.md").exists()
        subprocess.run([*command, "--resume", str(folder)], check=True, stdout=said, stderr=errors, timeout=240)
    assert weights(folder) == weights(run_of(trained))
    assert unclocked(folder) == unclocked(run_of(trained))
    assert (tmp_path / "errors.txt").read_text() == "", "no bars, no other libraries' noise, no warnings"
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert "Starts from chain_sum_tiny." in lines
    evaluated = [int(line.split()[0]) for line in lines if line.endswith("tokens a response")]
    assert [count for count in evaluated if count] == [32, 64, 96]
    assert not any("\r" in line for line in lines)


# ------------------------------------------------------------------ the rivals, other critics, other problems


@pytest.mark.parametrize("algo", ["grpo", "rloo", "remax", "ppo", "ppo-bce"])
def test_every_algorithm_runs_an_update(algo: str, tmp_path: Path) -> None:
    # room for whole chains: some responses must be right for groups to differ
    config = change(
        tiny(responses=32, max_new_tokens=128, evaluation={**SETTINGS["evaluation"], "every": 1000}), algo, {"n_episodes": 32}
    )
    model, evaluation = language_runs.run(config, 0, tmp_path, device="cpu")
    assert model._n_updates == 1
    first, last = evaluation.rows
    without_critic = isinstance(model, GRPO | RLOO | ReMax)
    assert (model.policy.critic is None) == without_critic  # type: ignore[attr-defined]
    # a critic of squared errors predicts something that no Hugging Face folder can say
    assert (tmp_path / "critic").exists() == (algo == "ppo-bce")
    assert last["episodes"] == (64 if algo == "remax" else 32)
    assert last["prompts"] == 32 // {"grpo": 8, "rloo": 4}.get(algo, 1)
    assert first["tokens"] == 0
    before, after = AutoModelForCausalLM.from_pretrained(SHIPPED), AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    assert all(not th.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True))


def test_a_critic_of_another_size(tmp_path: Path) -> None:
    critic = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
    }
    model, _ = language_runs.run(tiny(responses=16, critic=critic), 0, tmp_path, device="cpu")
    own = model.policy.critic.model.config  # type: ignore[attr-defined]
    assert (own.hidden_size, own.num_hidden_layers, own.vocab_size) == (24, 1, model.policy.model.config.vocab_size)  # type: ignore[attr-defined]
    assert PromptCritic.load(tmp_path / "critic").predict_solvability(["1+2="]).shape == (1,)


def test_problems_that_do_not_fit_are_posed_to_no_one() -> None:
    problems = {"source": "chain_sum", "size": 40, "seed": 2, "held_out": True}
    limit = 10
    config = tiny(max_prompt_tokens=limit, evaluation={"problems": problems, "every": 16, "count": 30})
    env, held_out = language_runs.make_envs(config)
    fitting = [p.prompt for p in chain_problems(40, seed=2, held_out=True)[:30] if len(str(p.prompt)) <= limit]
    assert 0 < len(fitting) < 30
    # once each, in order, and so it is in every evaluation
    for _ in range(2):
        seeds = np.random.default_rng(0).integers(2**31 - 1, size=held_out.num_envs)
        observed = held_out.reset_subset(np.arange(held_out.num_envs), seeds.tolist())
        posed = [held_out.task.problems[number].prompt for number in observed["problem_id"].flatten()]
        assert posed == fitting
    env.close()
    held_out.close()


def test_evaluations_count_responses_and_tokens() -> None:
    """On an environment whose responses can be foreseen: the model knows one token, and it is the last."""
    config = tiny()
    tokenizer = language_runs.load_tokenizer(SHIPPED)
    pairs = from_pairs([(f"{n}+1=", str(n + 1)) for n in range(5)])
    env = MathReasoningEnv(pairs, tokenizer, 8, 6, lambda response, gold: float(response == ""))
    held_out = MathReasoningEnv(pairs, tokenizer, 8, 6, lambda response, gold: float(response == "")).batched(5)
    model = language_runs.build(change(config, "remax"), 0, env, device="cpu")
    with th.no_grad():
        for parameter in model.policy.model.parameters():  # type: ignore[attr-defined]
            parameter.zero_()
        # hidden states become a constant, which only the end-of-sequence token's row answers to
        body = model.policy.model.model  # type: ignore[attr-defined]
        body.embed_tokens.weight[:, 0] = 1.0
        body.embed_tokens.weight[1, 0] = 50.0
        body.norm.weight.fill_(1.0)
    evaluation = ResponseEvaluation(held_out, every=1000, n_episodes=5)
    model.learn(16, callback=evaluation)
    row = evaluation.rows[0]
    assert (row["success"], row["greedy_success"], row["mean_length"], row["greedy_mean_length"]) == (1.0, 1.0, 1.0, 1.0)
    last = evaluation.rows[-1]
    assert (last["episodes"], last["prompts"], last["tokens"]) == (32, 16, 32)


# ------------------------------------------------------------------ the demo


def test_the_language_part_of_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    full, shortened = load_config("chain_sum_tiny"), demo_config(8192)
    assert (shortened.responses, shortened.evaluation.every, shortened.evaluation.count) == (8192, 2048, 256)
    assert replace(shortened, responses=full.responses, evaluation=full.evaluation) == full, "the same task, the same settings"

    monkeypatch.setattr("sppo_rl.zoo.commands.demo_language.load_config", lambda name: tiny())
    monkeypatch.setattr("sppo_rl.zoo.commands.demo_language.PROBLEMS", 8)
    folder = tmp_path / "language"
    threads = th.get_num_threads()
    with open(tmp_path / "said.txt", "w") as file:
        language(folder, 32, Console(file=file, width=80))
    assert th.get_num_threads() == threads
    assert {"plot_tokens.png", "plot_seconds.png", "table.md", "evaluations.csv", "policy"} <= {
        path.name for path in folder.iterdir()
    }
    said = (tmp_path / "said.txt").read_text()
    for problem in chain_problems(3, seed=2, held_out=True):
        # before and after
        lines = [line for line in said.splitlines() if line.startswith(f"  {problem.prompt} ")]
        assert len(lines) == 2
        for line in lines:
            box = re.search(r"\\boxed\{(-?\d+)\}", line)
            right = box is not None and box.group(1) == problem.answer
            assert line.endswith("   right" if right else f"   wrong: it is {problem.answer}")
    rows = read_evaluations(folder / "evaluations.csv")
    assert f"{rows[0]['success']:.0%} right before" in said
    assert f"and {rows[-1]['success']:.0%} after 32 responses" in said
    assert "pass@1" in capsys.readouterr().out


def test_answers_are_written_with_their_verdicts() -> None:
    problems = from_pairs([("1+2=", "3"), ("2+2=", "4")])
    infos = [{"text": "\\boxed{3}", "is_success": True}, {"text": "[b]5", "is_success": False}]
    assert exchanges(problems, infos) == "  1+2= \\boxed{3}   right\n  2+2= [b]5   wrong: it is 4"


def test_the_demo_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", "--only", "language", "-o", str(tmp_path / "demo")]) == 1
    assert "needs transformers and reasoning_gym: pip install 'sppo-rl[llm]'" in capsys.readouterr().err
    assert main(["demo", "--responses", "0"]) == 1
    assert "--responses must be at least 1, got 0" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
