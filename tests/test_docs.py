"""The documentation is held to the code: parameters, defaults, logged metrics, links, commands and examples."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.logger import configure

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.callbacks import EvaluationCallback
from sppo_rl.envs.control.catalog import TASKS
from sppo_rl.zoo.cli import COMMANDS, build_parser
from sppo_rl.zoo.settings.hyperparameters import load_hyperparameters
from tests.helpers import MatchEnv, SpaceEnv, dummy
from tests.pages import DOCS, PAGES, REPOSITORY, code_blocks, section, table, without_code

ALGORITHMS: dict[str, type[SequenceAlgorithm]] = {"SPPO": SPPO, "PPO": PPO, "GRPO": GRPO, "RLOO": RLOO, "ReMax": ReMax}
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])


# ---------------------------------------------------------------- parameters


def documented(text: str) -> dict[str, str]:
    """Parameter → its default as the page has it."""
    return {row[0].strip("`"): row[1].strip("`") for row in table(text) if row[0].startswith("`")}


def accepted(cls: type) -> dict[str, inspect.Parameter]:
    """What a constructor takes; where it passes keywords on, what the engine takes too."""
    parameters = dict(inspect.signature(cls).parameters)
    if parameters.pop("kwargs", None) is not None:
        parameters = {**inspect.signature(SequenceAlgorithm).parameters, **parameters}
    return parameters


@every_algorithm
def test_every_parameter_is_documented_with_its_default(name: str) -> None:
    common, page = DOCS / "algorithms" / "common.md", DOCS / "algorithms" / f"{name.lower()}.md"
    assert "(common.md#parameters)" in page.read_text()
    pages = documented(section(common, "### Every algorithm")) | documented(section(common, "### Of the critic"))
    if name != "SPPO":
        pages |= documented(section(common, "### Every algorithm but SPPO"))
    pages |= documented(section(page, "## Parameters"))
    parameters = accepted(ALGORITHMS[name])
    assert set(pages) == set(parameters)
    for key, parameter in parameters.items():
        default = "" if parameter.default is inspect.Parameter.empty else repr(parameter.default)
        assert pages[key] == default, f"{key}: the page says {pages[key]!r}, the code {default!r}"


@every_algorithm
def test_the_table_of_spaces_is_true(name: str) -> None:
    """The conformance tests learn on these spaces; here it is only asked which are refused at once."""
    rows = {
        row[0]: [cell.startswith("✔") for cell in row[1:]]
        for row in table(section(DOCS / "algorithms" / f"{name.lower()}.md", "## Can I use it?"))
        if row[0] != "space"
    }
    box = spaces.Box(-1.0, 1.0, (2,), np.float32)
    known: dict[str, gym.Space] = {
        "Discrete": spaces.Discrete(3),
        "Box": box,
        "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
        "MultiBinary": spaces.MultiBinary(2),
        "Dict": spaces.Dict({"a": box}),
    }
    assert set(rows) == set(known)
    for space, (as_action, as_observation) in rows.items():
        assert works(name, box, known[space]) == as_action, f"{space} as action"
        assert works(name, known[space], box) == as_observation, f"{space} as observation"


def works(name: str, observation: spaces.Space, action: spaces.Space) -> bool:
    policy = "MultiInputPolicy" if isinstance(observation, spaces.Dict) else "MlpPolicy"
    make = partial(ALGORITHMS[name], policy, dummy(partial(SpaceEnv, observation, action, length=2), 8), n_episodes=8, seed=0)
    if isinstance(action, spaces.Dict):
        with pytest.raises(AssertionError, match="action space"):
            make()
        return False
    return make().learn(1)._n_updates == 1


# ---------------------------------------------------------------- metrics


def explained(group: str) -> dict[str, str]:
    """Key → who logs it."""
    rows = table(section(DOCS / "algorithms" / "common.md", f"### {group}/"))
    return {row[0].removesuffix("†").strip().strip("`"): row[1] for row in rows if row[0] != "key"}


def logged(folder: Path) -> set[str]:
    lines = (folder / "progress.json").read_text().splitlines()
    return {re.sub(r"@\d+", "@k", key) for line in lines for key in json.loads(line) if "/" in key}


@every_algorithm
def test_every_metric_of_a_control_run_is_explained_and_no_other(name: str, tmp_path: Path) -> None:
    model = ALGORITHMS[name]("MlpPolicy", dummy(partial(MatchEnv, box=True), 8), n_episodes=8, seed=0)
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(24, callback=EvaluationCallback(dummy(partial(MatchEnv, box=True), 2), every=8, n_episodes=2))
    keys = {key: by for group in ("rollout", "train", "time") for key, by in explained(group).items()}
    expected = {key for key, by in keys.items() if by == "all" or name in by.split(", ")}
    expected |= {key for key, by in explained("eval").items() if "EvaluationCallback" in by}
    assert logged(tmp_path) == expected


def test_every_metric_of_a_language_run_is_explained_and_no_other(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    from sppo_rl.envs.reasoning import from_pairs
    from sppo_rl.llm.callbacks import BenchmarkCallback
    from tests.llm.conftest import echo_env, tiny_config

    # in bfloat16 the sampler's log-probabilities are not those of the training code
    kwargs = {"model": tiny_config(16, 1), "dtype": "bfloat16"}
    model = SPPO("TransformerPolicy", echo_env(), n_episodes=16, policy_kwargs=kwargs, seed=0, device="cpu")
    model.set_logger(configure(str(tmp_path), ["json"]))
    problems = from_pairs([("a" * (number % 3) + f"{number}?", str(number)) for number in range(6)])
    # right is now and then so for a random model, more often for higher golds: figures of agreement exist
    right = {str(number): "0123456789"[: number + 1] for number in range(6)}
    callback = BenchmarkCallback(
        problems, k=4, every=16, verifier=lambda response, gold: float(any(digit in response for digit in right[gold]))
    )
    model.learn(32, callback=callback)
    keys = {key: by for group in ("rollout", "train", "time") for key, by in explained(group).items()}
    expected = {key for key, by in keys.items() if by in ("all", "all, language") or "SPPO" in by.split(", ")}
    expected |= {key for key, by in explained("eval").items() if "BenchmarkCallback" in by}
    # there are no continuous actions, and a function that judges gives no answers to vote on
    assert logged(tmp_path) == expected - {"train/std", "eval/maj@k"}


# ---------------------------------------------------------------- links, commands


def anchors(page: Path) -> set[str]:
    """Those that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} does not exist"
        assert target.is_relative_to(REPOSITORY), f"{link} leads out of the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


def test_the_index_lists_every_page() -> None:
    links = set(re.findall(r"\]\(([^)#]+\.md)\)", (DOCS / "README.md").read_text()))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")} - {"README.md"}
    assert pages <= links


@every_page
def test_prose_is_wrapped(page: Path) -> None:
    """But for tables, and for lines that are one link or one command."""
    alone = re.compile(r"\s*(?:`[^`]+`|\[[^]]*\]\([^)]*\))[.,:;]?")
    lines = [line for line in without_code(page.read_text()).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > 140 and not alone.fullmatch(line)] == []


@every_page
def test_paths_named_in_prose_exist(page: Path) -> None:
    for path in re.findall(r"`((?:benchmarks|zoo|tests|docs|envs)/[\w./-]+)`", page.read_text()):
        assert (REPOSITORY / path).exists(), path


@every_page
def test_commands_are_understood(page: Path) -> None:
    """Every ``sppo-rl`` line parses; nothing is run."""
    for block in code_blocks(page, ""):
        for line in block.splitlines():
            if line.startswith("sppo-rl "):
                words = shlex.split(line, comments=True)[1:]
                assert words[0] in COMMANDS, line
                build_parser(words[0]).parse_args(words)


@every_page
def test_scripts_named_in_commands_exist(page: Path) -> None:
    for block in code_blocks(page, ""):
        for script in re.findall(r"(?<![\w/])benchmarks/[\w/]+\.(?:sh|py)", block):
            assert (REPOSITORY / script).is_file(), script


# ---------------------------------------------------------------- examples

EXAMPLES = {
    f"{page.relative_to(REPOSITORY)}, {n}": code for page in PAGES for n, code in enumerate(code_blocks(page, "python"))
}
LAPTOP = next(code for name, code in EXAMPLES.items() if name.startswith("docs/llm.md") and "Qwen2Config(" in code)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Each ``learn()`` makes one update; returns what was asked for. Files go to an empty folder."""
    learn, asked = SequenceAlgorithm.learn, []

    def once(model: Any, total_timesteps: int = 1_000_000, *options: Any, **more: Any) -> Any:
        asked.append(total_timesteps)
        return learn(model, 1, *options, **more)

    monkeypatch.setattr(SequenceAlgorithm, "learn", once)
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_compile(name: str) -> None:
    compile(EXAMPLES[name], name, "exec")


RUN = [
    name
    for name, code in EXAMPLES.items()
    if re.match("README|docs/algorithms|docs/environments", name) and "TransformerPolicy" not in code
]
"""Those that are whole, and need neither a model nor answers of one."""


@pytest.mark.parametrize("name", RUN)
@pytest.mark.filterwarnings("ignore:.*not one success")
def test_control_examples_run(name: str, short: list[int]) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(EXAMPLES[name], name, "exec"), namespace)
    assert short, "an example that trains"


@pytest.mark.parametrize("name", ["GRPO", "RLOO"])
def test_the_group_size_in_an_examples_comment_is_the_files(name: str) -> None:
    code = next(code for page, code in EXAMPLES.items() if f"algorithms/{name.lower()}.md" in page and "load_prior" in code)
    entry = load_hyperparameters(name.lower(), "sppo_rl/PrecisionCartPole200-v0").as_dict()
    assert f"# {entry['n_episodes']} episodes, groups of {entry['group_size']}: tuned" in code


def test_the_table_of_environments_is_the_catalog() -> None:
    rows = table((DOCS / "environments.md").read_text())
    expected = [[f"`{t.outcome_id}`", str(t.horizon), t.success, t.observation, t.action] for t in TASKS]
    assert sorted(row for row in rows if row[0].startswith("`sppo_rl/")) == sorted(expected)


def test_language_examples_run(short: list[int]) -> None:
    """The fragments go on from the laptop's environment and configuration, as their pages say."""
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    fragments = {name: code for name, code in EXAMPLES.items() if "algorithms/" in name and "TransformerPolicy" in code}
    assert len(fragments) >= 4
    fragments["docs/llm.md"] = LAPTOP
    for name, code in fragments.items():
        namespace: dict[str, Any] = {}
        if code is not LAPTOP:
            exec(compile(LAPTOP, "docs/llm.md", "exec"), namespace)
        exec(compile(code, name, "exec"), namespace)
        assert namespace["model"]._n_updates == 1
