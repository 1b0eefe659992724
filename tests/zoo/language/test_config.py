"""Configurations of language runs: those that ship hold together, and mistakes are named with what was seen and what exists."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("transformers", reason="needs the [llm] extra")

from sppo_rl.zoo.cli import main
from sppo_rl.zoo.language.check import check, unbuilt
from sppo_rl.zoo.language.config import LanguageConfig, change, config_of, config_stem, load_config, problems_of, shipped
from sppo_rl.zoo.language.memory import memory
from sppo_rl.zoo.names import UsageError
from sppo_rl.zoo.settings.hyperparameters import parse_overrides
from sppo_rl.zoo.settings.kinds import annotations_of, annotations_of_class, fits

FOLDER = Path(__file__).resolve().parents[3] / "zoo" / "hyperparams" / "llm"
MINIMAL: dict[str, Any] = {
    "responses": 32,
    "model": "chain_sum_tiny",
    "problems": {"source": "chain_sum", "size": 8},
    "max_prompt_tokens": 18,
    "max_new_tokens": 16,
    "evaluation": {"problems": {"source": "chain_sum", "size": 4, "held_out": True}, "every": 16},
    "hyperparameters": {"n_episodes": 16, "learning_rate": 1e-4},
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a check must not use the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


# ------------------------------------------------------------------ those that ship


def test_every_file_ships() -> None:
    assert shipped() == sorted(path.name.removesuffix(".yml") for path in FOLDER.iterdir() if path.suffix == ".yml")
    assert {"chain_sum_tiny", "qwen2.5_1.5b"} <= set(shipped())


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", shipped())
def test_shipped_configurations_are_sound(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU, without the network and without vLLM, which is not there on every machine that checks."""
    monkeypatch.setitem(sys.modules, "vllm", None)
    assert main(["train-llm", "--config", name, "--check"]) == 0
    said = capsys.readouterr().out
    assert f"{name} is sound" in said
    assert "memory" in said
    # by its path, and for every algorithm that the file has settings for
    config = load_config(f"zoo/hyperparams/llm/{name}.yml")
    assert config == load_config(str(FOLDER / f"{name}.yml")) == load_config(name)
    for algo in ("sppo", *config.algorithms):
        check(change(config, algo))


def test_the_papers_settings() -> None:
    """arXiv 2604.08865: prompts in an update, minibatches of prompts, updates, rates, temperature, limits."""
    small, large = load_config("deepseek_r1_distill_qwen_1.5b"), load_config("deepseek_r1_distill_qwen_7b")
    assert small.responses == 256 * 1000
    assert large.responses == 512 * 200
    for config, prompts, minibatch in ((small, 256, 128), (large, 512, 32)):
        for algo, group in (("sppo", 1), ("ppo", 1), ("grpo", 8), ("rloo", 5)):
            kwargs = change(config, algo).constructor_kwargs()
            model = unbuilt(change(config, algo))
            assert model.group_size == group
            assert (model.n_episodes // group, model.batch_size // group) == (prompts, minibatch)
            assert (model.learning_rate, model.clip_range, model.n_epochs) == (1e-6, 0.2, 1)
            assert kwargs["policy_kwargs"]["temperature"] == 0.6
        assert unbuilt(change(config, "ppo")).critic_warmup == 50
    assert large.critic == small.model


def test_memory_counts_what_is_trained() -> None:
    seven, one_and_a_half = 7.616 * 16 * 1e9 / 2**30, 1.777 * 16 * 1e9 / 2**30
    config = load_config("deepseek_r1_distill_qwen_7b")
    assert f"{seven + one_and_a_half:.0f} GiB (" in memory(config)
    assert f"{seven:.0f} GiB (" in memory(change(config, "grpo"))
    assert f"{2 * seven:.0f} GiB (" in memory(change(config, None, {"critic": None}))
    assert "not known" in memory(load_config("chain_sum_tiny"))
    assert "not known" in memory(change(config, None, {"policy_kwargs": {"lora": {"r": 8}}}))


# ------------------------------------------------------------------ what changes what


def test_algorithms_and_the_command_line_change_the_file() -> None:
    config = config_of(
        {
            **MINIMAL,
            "hyperparameters": {"n_episodes": 16, "policy_kwargs": {"temperature": 0.5, "tokens_per_pass": 64}},
            "algorithms": {"grpo": {"group_size": 8, "policy_kwargs": {"temperature": 0.7}}},
        }
    )
    assert config.constructor_kwargs() == {"n_episodes": 16, "policy_kwargs": {"temperature": 0.5, "tokens_per_pass": 64}}
    overrides = parse_overrides(["n_episodes=32", "responses=64", "critic=None", "policy_kwargs=dict(tokens_per_pass=128)"])
    changed = change(config, "grpo", overrides)
    assert (changed.algo, changed.responses, changed.critic) == ("grpo", 64, None)
    assert changed.constructor_kwargs() == {
        "n_episodes": 32,
        "group_size": 8,
        "policy_kwargs": {"temperature": 0.7, "tokens_per_pass": 128},
    }
    # of that algorithm alone
    assert changed.algorithms["grpo"]["n_episodes"] == 32
    assert config_of(yaml.safe_load(yaml.safe_dump(changed.as_dict()))) == changed
    with pytest.raises(UsageError, match="policy_kwargs is written policy_kwargs='dict"):
        change(config, None, {"policy_kwargs": 3})


def test_an_algorithms_own_settings_hold_unless_the_file_says_otherwise() -> None:
    assert config_of({**MINIMAL, "algo": "ppo-bce"}).constructor_kwargs()["critic_loss"] == "bce"
    told = {**MINIMAL, "algo": "ppo-bce", "algorithms": {"ppo-bce": {"critic_loss": "mse"}}}
    assert config_of(told).constructor_kwargs()["critic_loss"] == "mse"


def test_names_with_points_keep_them() -> None:
    assert config_stem("x/qwen2.5_1.5b.yml") == config_stem("qwen2.5_1.5b") == "qwen2.5_1.5b"


# ------------------------------------------------------------------ mistakes


def changed(path: str, value: Any) -> dict[str, Any]:
    """The small configuration with one value set (or, for ``...``, one key taken away); a path is ``a/b/c``."""
    settings = yaml.safe_load(yaml.safe_dump(MINIMAL))
    *outer, last = path.split("/")
    inner = settings
    for key in outer:
        inner = inner.setdefault(key, {})
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return settings


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        # keys
        ("reponses", 3, r"unknown key 'reponses'\. Did you mean 'responses'\? Keys: .*max_new_tokens"),
        ("evaluation/evry", 3, r"unknown key 'evry'\. Did you mean 'every'\?"),
        ("model", ..., r"lacks model"),
        ("evaluation/every", ..., r"evaluation lacks every"),
        ("hyperparameters/learning_rat", 1e-4, r"no hyperparameter 'learning_rat'\. Did you mean 'learning_rate'\?"),
        ("hyperparameters/n_timesteps", 5, r"'n_timesteps' is no hyperparameter of a language run"),
        ("hyperparameters/seed", 5, r"'seed' is no hyperparameter"),
        ("hyperparameters/policy_kwargs/temprature", 1.0, r"no 'temprature'\. Did you mean 'temperature'\? It has: .*dtype"),
        ("hyperparameters/policy_kwargs/model", "x", r"policy_kwargs has no 'model'"),
        ("algorithms/grppo", {}, r"no algorithm 'grppo'\. Did you mean 'grpo'\?"),
        ("algorithms/sb3-ppo", {}, r"PPO \(SB3\) cannot train language models\. Those that can: sppo, ppo, ppo-bce, grpo, rloo, remax\."),
        # values
        ("responses", 0, r"responses must be a whole number of at least 1, got 0"),
        ("responses", "many", r"responses must be a whole number of at least 1, got 'many'"),
        ("max_new_tokens", True, r"max_new_tokens must be a whole number of at least 1, got True"),
        ("evaluation/every", 1.5, r"evaluation\.every must be a whole number of at least 1, got 1\.5"),
        ("evaluation/count", 0, r"evaluation\.count must be .* got 0"),
        ("evaluation", 5, r"evaluation must be a mapping of keys to values, got 5"),
        ("algo", "spo", r"no algorithm 'spo'\. Did you mean 'sppo'"),
        ("algo", 3, r"algo must be the name of an algorithm, got 3"),
        ("algorithms", ["grpo"], r"algorithms must map names to hyperparameters, got \['grpo'\]"),
        ("algorithms/grpo", None, r"algorithms\.grpo .* got None"),
        ("hyperparameters", None, r"hyperparameters .* got None"),
        ("hyperparameters/policy_kwargs", [1], r"policy_kwargs in it\) must map names to values"),
        ("hyperparameters/n_episodes", 0, r"n_episodes must be at least 1, got 0"),
        ("hyperparameters/n_episodes", "many", r"n_episodes must be a whole number, got 'many'"),
        ("hyperparameters/batch_size", 5, r"n_episodes \(16\) must be a multiple of batch_size, got 5"),
        ("hyperparameters/max_grad_norm", "1e-1", r"max_grad_norm must be a number, got '1e-1'.* takes 1e-1 for text"),
        ("hyperparameters/critic_learning_rate", "fast", r"critic_learning_rate must be a number.*got 'fast'"),
        ("hyperparameters/critic_init", "first", r"critic_init must be a number, 'first_batch' or null, got 'first'"),
        ("hyperparameters/critic_loss", "mae", r"critic_loss must be 'auto', 'bce' or 'mse', got 'mae'"),
        ("hyperparameters/policy_kwargs/dtype", "bf16", r"dtype must be 'float32' or 'bfloat16', got 'bf16'"),
        ("hyperparameters/policy_kwargs/temperature", 0, r"temperature must be above 0, got 0"),
        ("hyperparameters/policy_kwargs/tokens_per_pass", 0, r"tokens_per_pass must be at least 1, got 0"),
        ("hyperparameters/policy_kwargs/weight_decay", "1e-2", r"weight_decay must be a number, got '1e-2'"),
        ("hyperparameters/policy_kwargs/generator", "vlm", r"generator must be 'transformers', 'vllm'.* got 'vlm'"),
        ("hyperparameters/policy_kwargs/lora", {"rank": 8}, r"unexpected keyword argument 'rank'"),
        # names
        ("model", "two words", r"model must be a shipped prior, a folder or a hub name .* got 'two words'"),
        ("model", None, r"model must be .* got None"),
        ("critic", 3, r"critic is null, a name or settings of a small network, got 3"),
        ("critic", "Qwen/", r"critic must be .* got 'Qwen/'"),
        # sources
        ("problems", "chain_sum", r"problems needs a source \(chain_sum, reasoning_gym, .*\), got 'chain_sum'"),
        ("problems/source", "chain_sun", r"got .*chain_sun.* Did you mean 'chain_sum'\?"),
        ("problems/source", ["chain_sum"], r"problems needs a source"),
        ("problems/sise", 3, r"problems of chain_sum has no 'sise'\. Did you mean 'size'\? It has: size, seed, held_out"),
        ("problems/size", ..., r"problems of chain_sum needs 'size'"),
        ("problems/size", "1e3", r"problems\.size must be a whole number, got '1e3'"),
        ("problems/size", 0, r"problems\.size must be a whole number of at least 1, got 0"),
        ("problems/seed", -1, r"problems\.seed must be at least 0, got -1"),
        ("evaluation/problems/held_out", "no", r"evaluation\.problems\.held_out must be true or false, got 'no'"),
        ("problems", {"source": "named", "name": "aime26"}, r"Unknown data set 'aime26'\. Known: aime24"),
        ("problems", {"source": "reasoning_gym", "task": "chainsum", "size": 3}, r"no task 'chainsum'\. It has: .*chain_sum"),
        ("problems", {"source": "file", "path": "nowhere.jsonl"}, r"there is no file nowhere\.jsonl"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("offline")
def test_mistakes_are_named(path: str, value: Any, message: str) -> None:
    check(config_of(MINIMAL))
    with pytest.raises(UsageError, match=message):
        check(config_of(changed(path, value)))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hyperparameters/learning_rate", "2e-4"),
        ("hyperparameters/learning_rate", "lin_3e-4"),
        ("hyperparameters/target_kl", None),
        ("hyperparameters/critic_init", 0.25),
        ("hyperparameters/policy_kwargs/lora", {"r": 8, "target_modules": "all-linear"}),
        ("hyperparameters/policy_kwargs/generator_kwargs", {}),
        ("critic", {"hidden_size": 24}),
        ("critic", "organisation/model"),
        ("model", "some/folder/here"),
        ("problems", {"source": "hub", "name": "someone/data", "split": "test"}),
        ("problems", {"source": "reasoning_gym", "task": "chain_sum", "size": 3, "min_terms": 2}),
        ("problems", {"source": "named", "name": "MATH-500"}),
    ],
)
def test_what_is_allowed_passes(path: str, value: Any) -> None:
    check(config_of(changed(path, value)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "chain_sum_tinny"], "'chain_sum_tinny'. Did you mean 'chain_sum_tiny'? Shipped: chain_sum_long, chain_sum_tiny, "),
        ([], "Name a configuration with --config"),
        (["--config", "broken.yml"], "broken.yml is no valid YAML"),
        (["--config", "empty.yml"], "empty.yml must be a mapping of keys to values, got None"),
        (["--config", "chain_sum_tiny", "--algo", "grop"], "Did you mean 'grpo'"),
        (["--config", "chain_sum_tiny", "--hyperparams", "n_episode=3"], "Did you mean 'n_episodes'"),
        (["--config", "chain_sum_tiny", "--hyperparams", "model=chain_sum_tny"], "'chain_sum_tny'. Did you mean 'chain_sum_tiny'?"),
        (["--config", "chain_sum_tiny", "--hyperparams", "model=some/thing"], "The model 'some/thing' cannot be read. It must be"),
        (["--config", "chain_sum_tiny", "--hyperparams", "critic=dict(hiden_size=8)"], "no setting 'hiden_size'. Did you mean 'hidden"),
        (["--config", "chain_sum_tiny", "--threads", "0"], "--threads must be at least 1, got 0"),
        (["--resume", "nowhere"], "nowhere is not the folder of a language run"),
        (["--resume", "control"], "control is not the folder of a language run"),
        (["--resume", "nowhere", "--hyperparams", "responses=3", "--check"], "cannot be combined with --hyperparams or --check"),
    ],
)  # fmt: skip
def test_mistakes_on_the_command_line_leave_nothing_behind(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # else the hub is asked, and asked again
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "broken.yml").write_text("algo: [")
    (tmp_path / "empty.yml").write_text("")
    (tmp_path / "control").mkdir()
    (tmp_path / "control" / "config.yml").write_text("algo: sppo\nenv_id: CartPole-v1\n")
    before = sorted(tmp_path.rglob("*"))
    assert main(["train-llm", *words]) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert sorted(tmp_path.rglob("*")) == before


# ------------------------------------------------------------------ problems, kinds


def test_sources_are_made_with_their_parameters(tmp_path: Path) -> None:
    path = tmp_path / "sums.jsonl"
    path.write_text('{"question": "1+1=", "answer": "2"}\n')
    (only,) = problems_of({"source": "file", "path": str(path), "instruction": "Box it."})
    assert (only.prompt, only.answer, only.source) == ("1+1=\nBox it.", "2", "sums")
    assert len(problems_of({"source": "chain_sum", "size": 3, "held_out": True})) == 3
    assert len(problems_of({"source": "reasoning_gym", "task": "leg_counting", "size": 2})) == 2


def test_kinds_are_read_off_annotations() -> None:
    from sppo_rl import GRPO

    of_class = annotations_of_class(GRPO)
    # its own parameter, and the engine's, which it takes through **kwargs
    assert of_class["group_size"] is int
    assert fits(1, of_class["batch_size"])
    assert fits(None, of_class["batch_size"])
    assert not fits(1.5, of_class["batch_size"])
    assert not fits(True, of_class["n_epochs"])
    assert fits("lin_1e-3", of_class["learning_rate"])
    assert fits(lambda progress: progress, of_class["learning_rate"])
    assert not fits([1.0], of_class["learning_rate"])

    def unreadable(known: int, unknown: NotThere, plain, **rest: int) -> None: ...  # type: ignore[name-defined,no-untyped-def] # noqa: F821

    assert annotations_of(unreadable) == {"known": int}


def test_a_configuration_is_not_changed_by_what_is_made_of_it() -> None:
    config: LanguageConfig = load_config("chain_sum_tiny")
    kwargs = config.constructor_kwargs()
    kwargs["policy_kwargs"]["temperature"] = 9.0
    kwargs["n_episodes"] = 1
    assert config == load_config("chain_sum_tiny")
