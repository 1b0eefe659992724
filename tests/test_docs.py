"""The documentation is held to the code: parameters, defaults, logged metrics, results, links, commands and examples."""

from __future__ import annotations

import csv
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium import spaces
from stable_baselines3.common.logger import configure

from sppo_rl import GRPO, PPO, RLOO, SPPO, ReMax
from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.callbacks import EvaluationCallback
from sppo_rl.zoo.cli import COMMANDS, build_parser
from tests.helpers import MatchEnv, SpaceEnv, dummy

REPOSITORY = Path(__file__).resolve().parent.parent
DOCS = REPOSITORY / "docs"
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md")), REPOSITORY / "benchmarks" / "README.md"]
ALGORITHMS: dict[str, type[SequenceAlgorithm]] = {"SPPO": SPPO, "PPO": PPO, "GRPO": GRPO, "RLOO": RLOO, "ReMax": ReMax}
COMPARED = {"SPPO": "sppo", "PPO (ours)": "ppo", "PPO (SB3)": "sb3-ppo", "PPO (Stable-Baselines3)": "sb3-ppo"}
COMPARED |= {"PPO + BCE": "ppo-bce", "GRPO": "grpo", "RLOO": "rloo", "ReMax": "remax"}
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(REPOSITORY)) for page in PAGES])


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_blocks(page: Path, language: str) -> list[str]:
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [code for name, code in fences if name == language]


def section(page: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of its level."""
    level, text = heading.split(" ", 1)[0], page.read_text()
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no {heading!r}"
    return found[1]


def table(text: str) -> Iterator[list[str]]:
    """The cells of each line of tables, those of headings among them."""
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith("| ---"):
            # GitHub reads an escaped bar as part of the cell
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


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


# ---------------------------------------------------------------- results


def decimals(value: float | str, digits: int = 3) -> str:
    """``.710``: as the pages write a share."""
    text = f"{float(value):.{digits}f}"
    return text.removeprefix("0") if text.startswith("0.") else text


def interval(row: dict[str, str], name: str) -> str:
    return f"[{decimals(row[f'{name}_low'])}, {decimals(row[f'{name}_high'])}]"


def measured(row: dict[str, str]) -> list[str]:
    """Success, greedy success and area under the curve, as the tables of the results page have them."""
    success = f"{decimals(row['success'])} ± {decimals(row['success_std'])} {interval(row, 'success')}"
    return [success, decimals(row["greedy_success"]), f"{decimals(row['area'])} {interval(row, 'area')}"]


def summary(folder: str, task: str) -> dict[str, dict[str, str]]:
    with open(RESULTS / folder / task / "summary.csv") as file:
        return {row["algo"]: row for row in csv.DictReader(file)}


def test_the_comparison_on_the_results_page_is_the_committed_one() -> None:
    rows = list(table(section(DOCS / "results.md", "## Task by task")))
    shown = [row for row in rows if len(row) == 6 and row[0] != "task"]
    assert len(shown) == 18
    for task, label, success, greedy, area, seconds in shown:
        row = summary("control_comparison", task)[COMPARED[label]]
        assert [success, greedy, area] == measured(row)
        assert seconds == f"{float(row['seconds']):.1f}"


def test_differences_on_the_results_page_are_the_committed_ones() -> None:
    claims = json.loads((RESULTS / "control_claims.json").read_text())
    found = {(row["env"], row["rival"], row["metric"]): row for row in claims["differences_from_sppo"]}
    shown = [row for row in table(section(DOCS / "results.md", "## Task by task")) if len(row) == 5 and row[0] != "task"]
    assert len(shown) * 3 == len(found) == 36
    for task, rival, *cells in shown:
        for metric, cell in zip(("success", "greedy_success", "area"), cells, strict=True):
            row = found[f"sppo_rl/{task}-v0", COMPARED[rival], metric]
            written = [float(number.replace("−", "-")) for number in re.findall(r"[+−][\d.]+", cell)]
            assert written == pytest.approx([row["difference"], row["low"], row["high"]], abs=6e-4), (task, rival, metric)


def test_falls_on_the_results_page_are_the_committed_ones() -> None:
    curves = json.loads((RESULTS / "control_claims.json").read_text())["curves"]
    shown = [row for row in table(section(DOCS / "results.md", "## The paper's claims")) if len(row) == 5 and row[0] != "task"]
    assert len(shown) == 6
    for task, *cells in shown:
        rows = {row["algo"]: row for row in curves if row["env"] == f"sppo_rl/{task}-v0"}
        falls = [rows[algo]["deepest_fall_mean"] for algo in ("sppo", "ppo", "sb3-ppo")]
        assert cells == [*map(decimals, falls), decimals(max(row["steady_runs_fall_97.5%"] for row in rows.values()))]


def test_the_first_finished_bias_on_the_results_page_is_the_committed_one() -> None:
    lines = (RESULTS / "first_finished_bias.csv").read_text().splitlines()
    found = {row["env"]: row for row in csv.DictReader(line for line in lines if not line.startswith("#"))}
    shown = list(table(section(DOCS / "results.md", "## The first-finished bias")))[1:]
    assert len(shown) == len(found) == 6
    for task, *cells in shown:
        row = found[f"sppo_rl/{task.split(',')[0]}-v0"]
        assert cells == [f"{decimals(row[name])} {interval(row, name)}" for name in ("same_finished", "first_finished")]


def test_critic_init_on_the_results_page_is_the_committed_one() -> None:
    shown = list(table(section(DOCS / "results.md", "## The critic's first prediction")))[1:]
    assert len(shown) == 6
    settings = yaml.safe_load((REPOSITORY / "zoo" / "hyperparams" / "sppo.yml").read_text())
    for task, choice, success, greedy, area in shown:
        in_file = settings[f"sppo_rl/{task}-v0"]["critic_init"] or "None"
        row = summary("control_comparison" if choice.strip("`") == in_file else "critic_init", task)["sppo"]
        assert [success, greedy, area] == measured(row)


def test_the_readme_has_the_committed_comparison() -> None:
    shown = [row for row in table((REPOSITORY / "README.md").read_text()) if len(row) == 4]
    heading = next(row for row in shown if row[0] == "task, episodes")
    rows = [row for row in shown if (RESULTS / "control_comparison" / row[0].split(",")[0]).is_dir()]
    assert len(rows) == 6
    for first, *cells in rows:
        task, _, episodes = first.partition(", ")
        of = summary("control_comparison", task)
        assert episodes == f"{float(of['sppo']['episodes']):,.0f}"
        for label, cell in zip(heading[1:], cells, strict=True):
            row = of[COMPARED[label]]
            assert cell == f"{decimals(row['success'])} {interval(row, 'success')}; {decimals(row['greedy_success'])}"


@pytest.mark.parametrize("page", [REPOSITORY / "README.md", DOCS / "results.md"], ids=lambda page: page.name)
def test_speed_is_the_committed_one(page: Path) -> None:
    rows = json.loads((RESULTS / "control_throughput.json").read_text())["rows"]
    cells = {
        (row["env"], row["minibatches_x_epochs"]): (
            f"{row['sppo_steps_per_second']:,} against {row['sb3_ppo_steps_per_second']:,}: "
            f"{row['ratio_median']:.1f} [{row['ratio_min']:.1f}, {row['ratio_max']:.1f}]"
        )
        for row in rows
    }
    shown = [row for row in table(page.read_text()) if len(row) == 3 and "against" in row[1]]
    assert len(shown) * 2 == len(cells)
    for task, *found in shown:
        assert found == [cells[f"sppo_rl/{task}-v0", schedule] for schedule in ("1x4", "4x10")]


@pytest.mark.parametrize("study", ["equal_responses", "equal_prompts", "critic_size"])
def test_language_tables_are_the_committed_ones(study: str) -> None:
    page = section(DOCS / "results-language.md", f"## {study.replace('_', ' ').capitalize()}")
    committed = list(table((RESULTS / "language" / study / "table.md").read_text()))
    assert len(committed) >= 8
    assert [row for row in table(page) if row in committed] == committed


def test_figures_of_the_verifier_are_the_committed_ones() -> None:
    found = json.loads((REPOSITORY / "benchmarks" / "verifier" / "results.json").read_text())
    page, _ = section(DOCS / "verifier.md", "## Measured").split("### A second corpus")
    rows = {row[0]: row[1:] for row in table(page)}

    def rate(value: float) -> str:
        return f"{value:.3f}".removeprefix("0") if value < 1.0 else "1.000"

    inputs = found["hostile"]["sppo_rl"]["inputs"]
    slow = {
        "sppo_rl": inputs - found["hostile"]["sppo_rl"]["within_5_s"],
        "math-verify 0.9.0": len(found["hostile"]["math-verify 0.9.0"]["over_5_s_or_died"]),
    }
    for shown, name in {"`sppo_rl`, in one process": "sppo_rl", "math-verify 0.9.0": "math-verify 0.9.0"}.items():
        figures = found["corpus"][name]
        expected = [rate(figures["true_positive_rate"]), rate(figures["false_positive_rate"])]
        assert rows[shown][:2] == expected
        assert float(rows[shown][2]) == pytest.approx(figures["seconds_per_1000"], rel=0.02)
        assert rows[shown][3].startswith(f"{slow[name]} of {inputs}")
    assert f"All of {inputs} hostile inputs" in (REPOSITORY / "README.md").read_text()


def test_language_speed_and_memory_are_the_committed_ones() -> None:
    page = section(DOCS / "llm.md", "## Speed and memory")
    speed, memory = (json.loads((RESULTS / f"llm_{name}.json").read_text()) for name in ("throughput", "memory"))
    rows = list(table(page))
    ratio = f"{speed['ratio_median']:.2f} [{speed['ratio_min']:.2f}, {speed['ratio_max']:.2f}]"
    assert rows[1] == ["", f"{speed['ours_tokens_per_second']:,}", f"{speed['trl_tokens_per_second']:,}", ratio]
    assert f"{ratio} times the speed of TRL" in (REPOSITORY / "README.md").read_text()
    assert rows[3:] == [
        [
            row["configuration"],
            f"{row['critic_parameters'] / 1e6:.1f}M",
            f"{row['memory_mib']:,.0f}",
            f"{row['collect_seconds']:.1f}",
            f"{row['update_seconds']:.1f}",
        ]
        for row in memory["rows"]
    ]


def test_rivals_on_the_results_page_are_the_committed_ones() -> None:
    shown = list(table(section(DOCS / "results.md", "## The other rivals")))[1:]
    assert len(shown) == 16
    for task, label, success, greedy, area, episodes in shown:
        row = summary("control_rivals", task)[COMPARED[label]]
        assert [success, greedy, area] == measured(row)
        assert episodes == f"{float(row['episodes']):,.0f}"


def test_tuned_results_on_the_results_page_are_the_committed_ones() -> None:
    folder = "tuned_comparison/PrecisionCartPole200"
    before, tuned = summary(folder, "as_in_the_file"), summary(folder, "tuned")
    settings = json.loads((RESULTS / f"{folder}.json").read_text())["tuned"]
    shown = list(table(section(DOCS / "results.md", "## Tuned alike")))[1:]
    assert {COMPARED[row[0]] for row in shown} == set(settings) == set(tuned)
    for label, *cells in shown:
        algo = COMPARED[label]
        chosen = settings[algo]["hyperparameters"]
        assert cells == [
            measured(before[algo])[0],
            measured(tuned[algo])[0],
            measured(tuned[algo])[2],
            f"{chosen['learning_rate']:g}",
            f"{chosen['n_epochs']} × {64 // chosen['batch_size']}",
            f"{chosen['clip_range']}",
        ]


def test_figures_over_all_tasks_are_those_of_the_report() -> None:
    report = [row for row in table((RESULTS / "report" / "report.md").read_text()) if len(row) == 4][:7]
    page = [row for row in table(section(DOCS / "results.md", "## Over all tasks")) if len(row) == 4]
    numbers = [[re.findall(r"\d*\.\d+", cell.replace("0.", ".")) for cell in row[1:]] for row in report]
    assert [[re.findall(r"\d*\.\d+", cell) for cell in row[1:]] for row in page] == numbers
    assert sum(len(cell) for row in numbers for cell in row) == 5 * 3 * 3


def test_hyperparameters_are_those_of_the_file() -> None:
    settings = yaml.safe_load((REPOSITORY / "zoo" / "hyperparams" / "sppo.yml").read_text())
    names, *rows = table(section(DOCS / "which-algorithm.md", "## Hyperparameters"))
    assert {row[0].strip("`") for row in rows} == set(settings)
    for env_id, *cells in rows:
        for name, cell in zip(names[1:], cells, strict=True):
            assert yaml.safe_load(cell.strip("`")) == settings[env_id.strip("`")][name.strip("`")], (env_id, name)


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

    def once(model: Any, total_timesteps: int = 1_000_000, **options: Any) -> Any:
        asked.append(total_timesteps)
        return learn(model, 1, **options)

    monkeypatch.setattr(SequenceAlgorithm, "learn", once)
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_compile(name: str) -> None:
    compile(EXAMPLES[name], name, "exec")


RUN = [name for name, code in EXAMPLES.items() if re.match("README|docs/algorithms", name) and "TransformerPolicy" not in code]
"""Those that are whole, and need neither a model nor answers of one."""


@pytest.mark.parametrize("name", RUN)
@pytest.mark.filterwarnings("ignore:.*not one success")
def test_control_examples_run(name: str, short: list[int]) -> None:
    namespace: dict[str, Any] = {}
    exec(compile(EXAMPLES[name], name, "exec"), namespace)
    assert short, "an example that trains"


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
