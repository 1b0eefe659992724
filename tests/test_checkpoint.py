"""Exact resume: training processes are killed with SIGKILL, resumed, and held to the run that was not killed, bit for bit."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sppo_rl import SPPO
from sppo_rl.checkpoint import CheckpointCallback, load_checkpoint, save_checkpoint
from tests.helpers import TraceBatch, dummy
from tests.resuming import (
    RUNS,
    CursorBatch,
    Processes,
    Suicide,
    assert_identical,
    begun,
    cart_poles,
    everything,
    make_model,
    normalized,
    result,
    serve,
)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,))
    server.start()
    yield Processes(ours, tmp_path_factory.mktemp("undisturbed"))
    ours.send(None)
    server.join()


# ---------------------------------------------------------------- kill points


@pytest.mark.parametrize("name", sorted(set(RUNS) - {"big"}))
def test_a_killed_and_resumed_run_ends_as_the_one_that_was_not(name: str, processes: Processes, tmp_path: Path) -> None:
    expected, events = processes.reference(name)
    # a resumed process has fewer events left: the first kill point may lie anywhere, the later ones anywhere in what is left
    rng = np.random.default_rng(sorted(RUNS).index(name))
    for share in (1.0, 0.7, 0.5):
        status = processes.train(name, tmp_path, Suicide(int(rng.integers(1, max(2, share * events)))))
        assert status in (-signal.SIGKILL, 0)
        if status == 0:
            break
    if status:
        assert processes.train(name, tmp_path) == 0
    assert len(begun(tmp_path)) > 1, "nothing was killed"
    assert_identical(result(tmp_path), expected)


def test_the_runs_are_long_enough_to_be_killed(processes: Processes) -> None:
    for name in sorted(set(RUNS) - {"big"}):
        assert processes.reference(name)[0]["updates"] >= 2 * RUNS[name].every_updates, name


# what writing a checkpoint calls, before the n-th call: the first checkpoint, and later ones that have good ones before them
KILLED_IN = [("BufferedWriter.write", 5), ("fsync", 1), ("replace", 1), ("fsync", 2)]
KILLED_IN += [("open", 3), ("BufferedWriter.write", 40), ("replace", 3), ("unlink", 1)]


@pytest.mark.parametrize(("function", "at"), KILLED_IN)
def test_a_kill_while_a_checkpoint_is_written(function: str, at: int, processes: Processes, tmp_path: Path) -> None:
    expected, _ = processes.reference("minibatches")
    assert processes.train("minibatches", tmp_path, Suicide(at, function)) == -signal.SIGKILL
    assert processes.train("minibatches", tmp_path) == 0
    assert_identical(result(tmp_path), expected)
    assert not list(tmp_path.glob(".*")), "a half-written file was left"


def test_a_kill_from_outside_at_random_times(processes: Processes, tmp_path: Path) -> None:
    """Writing takes a large part of this run: 3 MB after every update."""
    expected, _ = processes.reference("big")
    started = time.perf_counter()
    # the reference counts events, and the first process of all waits for the others to be there
    assert processes.train("big", tmp_path / "timed") == 0
    duration, folder = time.perf_counter() - started, tmp_path / "killed"
    rng = np.random.default_rng(0)
    for kills in range(4):
        if processes.train("big", folder, kill_after=rng.uniform(0.1, 0.8) * duration) == 0:
            assert kills, "it was done before it could be killed"
            break
    else:
        assert processes.train("big", folder) == 0
    assert_identical(result(folder), expected)


# ---------------------------------------------------------------- damaged files


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder with two checkpoints, the newer one of the end, and what the run ended with."""
    folder, run = tmp_path_factory.mktemp("finished"), RUNS["minibatches"]
    model = make_model("minibatches")
    model.learn(run.total_timesteps, callback=CheckpointCallback(folder, run.every_updates))
    return folder, everything(model)


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint_*.zip"))


def cut_short(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


def emptied(content: bytes) -> bytes:
    return b""


def zeros_in_the_middle(content: bytes) -> bytes:
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


def zeros_at_the_end(content: bytes) -> bytes:
    return content[:-512] + bytes(512)


def garbage(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(content))


def one_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def marked_as_encrypted(content: bytes) -> bytes:
    """The flags of the last entry in the directory."""
    flags = content.rindex(b"PK\x01\x02") + 8
    return content[:flags] + b"\x01" + content[flags + 1 :]


DAMAGES = [cut_short, emptied, zeros_in_the_middle, zeros_at_the_end, garbage, one_bit, marked_as_encrypted]


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_used(
    damage: Callable[[bytes], bytes], finished: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    older, newest = checkpoints(tmp_path)
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged"):
        model = load_checkpoint(SPPO, tmp_path, cart_poles(), device="cpu")
    assert model is not None
    assert f"{model.num_timesteps:012d}" in older.name
    # going on replaces the damaged file and ends where the undisturbed run did
    run = RUNS["minibatches"]
    model.learn(
        run.total_timesteps - model.num_timesteps,
        callback=CheckpointCallback(tmp_path, run.every_updates),
        reset_num_timesteps=False,
    )
    assert_identical(everything(model), finished[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_checkpoint(SPPO, tmp_path, cart_poles(), device="cpu") is not None


def test_random_damage_is_noticed_or_harmless(tmp_path: Path) -> None:
    """Where the file's directory is hit, zipfile fails in many different ways."""
    model = SPPO("MlpPolicy", cart_poles(), n_episodes=2, policy_kwargs={"net_arch": [4]}, seed=0, device="cpu")
    older = save_checkpoint(model, tmp_path)
    newest = older.with_name("checkpoint_000000000099.zip")
    content = older.read_bytes()
    rng = np.random.default_rng(0)
    expected = everything(model)["policy"]
    env = cart_poles()
    for _ in range(25):
        # most of it near the end, where the directory is
        spoilt = bytearray(content)
        start = (
            int(rng.integers(len(content) - 220, len(content) - 8)) if rng.random() < 0.7 else int(rng.integers(len(content)))
        )
        width = int(rng.integers(1, 8))
        spoilt[start : start + width] = rng.bytes(width)
        newest.write_bytes(spoilt)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded = load_checkpoint(SPPO, tmp_path, env, device="cpu")
        assert loaded is not None
        assert_identical(everything(loaded)["policy"], expected)


def test_damaged_checkpoints_alone_are_an_error(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    for path in checkpoints(tmp_path):
        path.write_bytes(cut_short(path.read_bytes()))
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match=r"All 2 checkpoints in .* are damaged"):
        load_checkpoint(SPPO, tmp_path, cart_poles(), device="cpu")


@pytest.mark.parametrize("code", [errno.EMFILE, errno.EACCES, errno.EIO])
@pytest.mark.parametrize("function", ["open", "read"])
def test_a_file_that_cannot_be_read_now_is_not_called_damaged(
    function: str, code: int, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on from the older one would delete the newer, which is whole."""

    def fail(*args: Any) -> Any:
        raise OSError(code, os.strerror(code), str(args[0]))

    class Unreadable(io.FileIO):
        readinto = fail

    files = {"open": fail, "read": lambda path, *how: Unreadable(path)}
    with monkeypatch.context() as patch:
        patch.setattr(io, "open", files[function])
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            load_checkpoint(SPPO, finished[0], cart_poles(), device="cpu")
    assert caught.value.errno == code
    assert load_checkpoint(SPPO, finished[0], cart_poles(), device="cpu") is not None


def test_no_checkpoint_is_no_model(tmp_path: Path) -> None:
    assert load_checkpoint(SPPO, tmp_path, cart_poles()) is None
    assert load_checkpoint(SPPO, tmp_path / "nowhere", cart_poles()) is None


# ---------------------------------------------------------------- the folder


class Steps(BaseCallback):
    """Timesteps after each update."""

    def _init_callback(self) -> None:
        self.after_updates: list[int] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.after_updates.append(self.num_timesteps)


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(keep: int, tmp_path: Path) -> None:
    steps = Steps()
    make_model("minibatches").learn(300, callback=[steps, CheckpointCallback(tmp_path, every_updates=1, keep=keep)])
    assert len(steps.after_updates) > 3
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint_{n:012d}.zip" for n in steps.after_updates[-keep:]]


def test_strays_and_checkpoints_of_an_abandoned_run_are_removed(tmp_path: Path) -> None:
    model = make_model("minibatches")
    model.num_timesteps = 500
    save_checkpoint(model, tmp_path)
    stray = tmp_path / ".checkpoint_000000000600.zip.4321"
    stray.write_bytes(b"half")
    unrelated = tmp_path / "notes.txt"
    unrelated.write_text("mine")
    model.num_timesteps = 100
    path = save_checkpoint(model, tmp_path, keep=1)
    assert sorted(tmp_path.iterdir()) == [path, unrelated]
    loaded = load_checkpoint(SPPO, tmp_path, cart_poles())
    assert loaded is not None
    assert loaded.num_timesteps == 100


def test_numbers_out_of_range_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        save_checkpoint(make_model("minibatches"), tmp_path, keep=0)
    with pytest.raises(ValueError, match="every_updates must be at least 1, got 0"):
        CheckpointCallback(tmp_path, every_updates=0)
    with pytest.raises(ValueError, match="keep must be at least 1, got 0"):
        CheckpointCallback(tmp_path, keep=0)


class Stop(BaseCallback):
    """Stops in the middle of a collection, after some updates."""

    def __init__(self, updates: int):
        super().__init__()
        self.updates = updates

    def _on_step(self) -> bool:
        return self.model._n_updates < self.updates


@pytest.mark.parametrize("every_updates", [1, 10])
def test_a_run_that_a_callback_stopped_goes_on_from_its_last_whole_update(every_updates: int, tmp_path: Path) -> None:
    """The weights after a stop are those of the last update, but the generators and counters have moved on."""
    steps = Steps()
    model = make_model("minibatches").learn(300, callback=steps)
    stopped = make_model("minibatches").learn(300, callback=[CheckpointCallback(tmp_path, every_updates), Stop(3)])
    kept = steps.after_updates[1:3] if every_updates == 1 else steps.after_updates[2:3]
    assert [path.name for path in checkpoints(tmp_path)] == [f"checkpoint_{n:012d}.zip" for n in kept]
    assert stopped.num_timesteps > kept[-1], "the model itself knows of the steps that were thrown away"
    resumed = load_checkpoint(SPPO, tmp_path, cart_poles(), device="cpu")
    assert resumed is not None
    resumed.learn(300 - resumed.num_timesteps, reset_num_timesteps=False)
    assert_identical(everything(resumed), everything(model))


# ---------------------------------------------------------------- another environment than before


def refused(saved: VecEnv, given: VecEnv, folder: Path, message: str) -> None:
    save_checkpoint(SPPO("MlpPolicy", saved, n_episodes=4, device="cpu"), folder)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(SPPO, folder, given, device="cpu")


def test_normalization_must_be_as_it_was(tmp_path: Path) -> None:
    plain = dummy(partial(gym.make, "CartPole-v1"), 3)
    refused(normalized(), plain, tmp_path / "a", "checkpointed with VecNormalize")
    refused(plain, normalized(), tmp_path / "b", "checkpointed without VecNormalize")


def test_the_number_of_copies_must_be_as_it_was(tmp_path: Path) -> None:
    refused(TraceBatch(4), TraceBatch(3), tmp_path, "with 4 environment copies, but .* has 3")


def test_an_environments_own_state_needs_a_place_to_go(tmp_path: Path) -> None:
    refused(CursorBatch(4), TraceBatch(4), tmp_path, r"TraceBatch has no set_state\(\)")


# ---------------------------------------------------------------- save and load, as in SB3


@pytest.mark.parametrize("to", ["path", "text", "memory"])
@pytest.mark.parametrize("name", ["minibatches", "gsde", "groups"])
def test_save_and_load_keep_weights_optimizers_and_counters(name: str, to: str, tmp_path: Path) -> None:
    run = RUNS[name]
    model = make_model(name).learn(400)
    target: Any = {"path": tmp_path / "model", "text": str(tmp_path / "model.zip"), "memory": io.BytesIO()}[to]
    model.save(target)
    if to == "memory":
        target.seek(0)
    loaded = run.algorithm.load(target, env=run.make_env(), device="cpu")
    kept = ("policy", "optimizer", "critic_optimizer", "timesteps", "episodes", "updates")
    before, after = everything(model), everything(loaded)
    assert_identical({key: after[key] for key in kept}, {key: before[key] for key in kept})
    for progress in (1.0, 0.5, 0.0):
        assert loaded.clip_range(progress) == model.clip_range(progress)
        assert loaded.lr_schedule(progress) == model.lr_schedule(progress)
        assert loaded.critic_lr_schedule(progress) == model.critic_lr_schedule(progress)
    loaded.learn(400, reset_num_timesteps=False)
    assert loaded.num_timesteps >= model.num_timesteps + 400
