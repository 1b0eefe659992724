"""The wheel holds everything, and works where no repository is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = {"sppo_rl": "sppo_rl", "envs": "sppo_rl/envs", "zoo": "sppo_rl/zoo"}


def test_every_source_file_is_in_the_wheel(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = set()
    for folder, package in FOLDERS.items():
        for pattern in ("*.py", "*.yml", "agents/*", "priors/*"):
            files = (REPOSITORY / folder).rglob(pattern)
            expected |= {f"{package}/{file.relative_to(REPOSITORY / folder)}" for file in files if file.is_file()}
    expected = {name for name in expected if "__pycache__" not in name}
    assert expected, "found no source at all"
    assert expected - packed == set()


def test_the_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import gymnasium, sppo_rl\n"
        "assert sppo_rl.__file__.startswith(sys.argv[1]), sppo_rl.__file__\n"
        "assert sppo_rl.zoo.__file__.startswith(sys.argv[1]), sppo_rl.zoo.__file__\n"
        "model = sppo_rl.zoo.load_prior('sppo_rl/PrecisionCartPole200-v0', n_episodes=4)\n"
        "model.learn(1)\n"
        "assert gymnasium.make('sppo_rl/Pendulum-v0').reset(seed=0)[0].shape == (3,)\n"
    )
    # -I: neither the working folder nor the environment adds to the path
    run = subprocess.run([sys.executable, "-I", "-c", script, str(site)], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_what_the_package_names_is_imported_when_it_is_asked_for() -> None:
    script = "import sppo_rl; print(*(getattr(sppo_rl, name).__name__ for name in ('checkpoint', 'envs', 'llm', 'zoo')))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["sppo_rl.checkpoint", "sppo_rl.envs", "sppo_rl.llm", "sppo_rl.zoo"]


def test_importing_the_package_loads_no_simulator_and_no_zoo() -> None:
    script = (
        "import sys, sppo_rl\n"
        "heavy = {'mujoco', 'Box2D', 'pygame', 'matplotlib', 'transformers', 'vllm', 'yaml'}\n"
        "heavy |= {'sppo_rl.zoo', 'sppo_rl.llm', 'sppo_rl.envs.control.cartpole'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_repository_root_as_working_folder_finds_its_own_envs_and_zoo() -> None:
    # an installed wheel is shadowed by ./sppo_rl there; -P -S would hide the fault, so the root is put first by hand
    script = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import sppo_rl.envs, sppo_rl.zoo; print(sppo_rl.envs.__file__)"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == REPOSITORY / "envs" / "__init__.py"


def test_the_extras_of_rl_zoo3_bring_everything_that_its_command_line_imports(tmp_path: Path) -> None:
    script = (
        "import importlib.abc, sys\n"
        "from importlib.metadata import PackageNotFoundError, packages_distributions, requires\n"
        "from packaging.requirements import Requirement\n"
        "from packaging.utils import canonicalize_name as canonical\n"
        "seen, waiting = set(), [('sppo-rl', ('control', 'zoo', 'rl-zoo3'))]\n"
        "while waiting:\n"
        "    name, extras = waiting.pop()\n"
        "    if (name, extras) in seen:\n"
        "        continue\n"
        "    seen.add((name, extras))\n"
        "    try:\n"
        "        wanted = [Requirement(each) for each in requires(name) or ()]\n"
        "    except PackageNotFoundError:\n"
        "        continue  # another system's\n"
        "    for each in wanted:\n"
        "        if each.marker is None or any(each.marker.evaluate({'extra': extra}) for extra in (*extras, '')):\n"
        "            waiting.append((canonical(each.name), tuple(sorted(each.extras))))\n"
        "brought = {name for name, _ in seen}\n"
        "others = {m for m, names in packages_distributions().items() if not brought & set(map(canonical, names))}\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name.split('.')[0] in others - {'sppo_rl', 'packaging'}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import sppo_rl.zoo.rl_zoo3\n"
        "sppo_rl.zoo.rl_zoo3.register()\n"
        "import rl_zoo3.cli\n"
    )
    # elsewhere: what a build left in the repository would be taken for an installation
    run = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
