"""Exact resume: a run that is killed and resumed ends with the same weights, bit for bit, as one that was not.

``save``/``load`` keep what SB3's keep: weights, optimizers, counters. A checkpoint adds every random generator, the statistics of
``VecNormalize`` and the state of environments that have one of their own (``get_state``/``set_state``, such as the prompt cursor of the
reasoning bandit). It is taken between two updates; every update starts with a seeded reset, so no episode is ever in flight.

A checkpoint is written beside its final name, flushed to disk and renamed, so a file under that name is whole. It holds pickles: load
only what you trust.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.counters import RUN_COUNTERS

Algorithm = TypeVar("Algorithm", bound=SequenceAlgorithm)

_DAMAGED = (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error)
"""What zipfile raises for content that was cut short or overwritten; which of them depends on where."""


class _File(io.RawIOBase):
    """A file that remembers why it could not be read: zipfile may call it a bad one then."""

    def __init__(self, path: Path):
        self._raw = path.open("rb", buffering=0)
        self.failure: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._raw.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        try:
            return self._raw.readinto(buffer)
        except OSError as error:
            self.failure = error
            raise

    def close(self) -> None:
        self._raw.close()
        super().close()


_COUNTERS = (
    "num_timesteps",
    "num_episodes",
    "_episode_num",
    "num_tokens",
    "ep_info_buffer",
    "ep_success_buffer",
    RUN_COUNTERS,
)
"""What a collection counts on, beside the state of generators and environments."""


def save_checkpoint(model: SequenceAlgorithm, folder: str | Path, keep: int = 2) -> Path:
    """
    Write a checkpoint; call it between two updates (:class:`CheckpointCallback` does).

    A folder belongs to one run. Checkpoints there that are further than this one are deleted: they were damaged, or are of a run that
    has been begun anew.

    :param model: with its environment
    :param folder: made if it does not exist
    :param keep: how many of the newest checkpoints to leave there; at least 1
    :return: the file
    :raises ValueError: if ``keep`` is below 1
    """
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}: the checkpoint just written would be deleted.")
    return _write(model, Path(folder), keep, pickle.dumps(_run_state(model)))


def _write(model: SequenceAlgorithm, folder: Path, keep: int, state: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weights = io.BytesIO()
    model.save(weights)
    path = folder / f"checkpoint_{model.num_timesteps:012d}.zip"
    partial = folder / f".{path.name}.{os.getpid()}"
    with partial.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("model.zip", weights.getbuffer())
            archive.writestr("state.pkl", state)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    _flush_folder(folder)
    candidates = _newest_first(folder)
    this = candidates.index(path)
    for other in candidates[:this] + candidates[this + keep :]:
        other.unlink(missing_ok=True)
    # what a killed run left half-written
    for stray in folder.glob(".checkpoint_*"):
        stray.unlink(missing_ok=True)
    return path


def load_checkpoint(
    algorithm: type[Algorithm], folder: str | Path, env: GymEnv, device: th.device | str = "auto"
) -> Algorithm | None:
    """
    Load the newest checkpoint that is whole.

    Go on with ``model.learn(total_timesteps - model.num_timesteps, reset_num_timesteps=False)``, where ``total_timesteps`` is that of the
    run that was killed (schedules depend on it).

    :param algorithm: the class that was trained
    :param folder: where :func:`save_checkpoint` wrote
    :param env: made as it was for the run that was killed
    :param device: as in the algorithm's constructor
    :return: the model, or ``None`` if the folder holds no checkpoint
    :raises ValueError: if there are checkpoints but all of them are damaged, or if ``env`` is not as it was (its number of copies,
        ``VecNormalize``, a state of its own)
    :raises OSError: if the newest cannot be read (too many open files, no permission, a failing disk), which says nothing of its content
    """
    candidates = _newest_first(Path(folder))
    for path in candidates:
        file = _File(path)
        try:
            with io.BufferedReader(file) as buffered, zipfile.ZipFile(buffered) as archive:
                # reading checks each member against its checksum
                weights, state = archive.read("model.zip"), archive.read("state.pkl")
        except _DAMAGED as error:
            if file.failure is not None:
                raise file.failure from error
            warnings.warn(f"{path} is damaged ({error}); trying the one before it.", UserWarning, stacklevel=2)
            continue
        model = algorithm.load(io.BytesIO(weights), env=env, device=device, force_reset=False)
        _restore_run_state(model, pickle.loads(state))
        return model
    if candidates:
        raise ValueError(f"All {len(candidates)} checkpoints in {folder} are damaged. Delete them to start the run anew.")
    return None


class CheckpointCallback(BaseCallback):
    """
    Writes an exact checkpoint every few updates, and one at the end of training; where another callback stops a collection half-way,
    that one is of the moment before it.

    :param folder: for :func:`save_checkpoint`
    :param every_updates: updates between two checkpoints
    :param keep: see :func:`save_checkpoint`
    :raises ValueError: if ``every_updates`` or ``keep`` is below 1
    """

    def __init__(self, folder: str | Path, every_updates: int = 10, keep: int = 2):
        super().__init__()
        if every_updates < 1:
            raise ValueError(f"every_updates must be at least 1, got {every_updates}.")
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}: no checkpoint would be left.")
        self.folder, self.every_updates, self.keep = Path(folder), every_updates, keep
        self._between: tuple[bytes, bytes] | None = None
        """Counters and run state before the collection that is going on; weights do not change during it."""

    def _on_rollout_start(self) -> None:
        assert isinstance(self.model, SequenceAlgorithm)
        if self.model._n_updates and self.model._n_updates % self.every_updates == 0:
            save_checkpoint(self.model, self.folder, self.keep)
        counters = {name: self.model.__dict__[name] for name in _COUNTERS if name in self.model.__dict__}
        self._between = pickle.dumps(counters), pickle.dumps(_run_state(self.model))

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        assert isinstance(self.model, SequenceAlgorithm)
        if not self.model.interrupted:
            save_checkpoint(self.model, self.folder, self.keep)
        elif self._between is not None and self.model._n_updates:
            counters, state = self._between
            now = dict(self.model.__dict__)
            self.model.__dict__.update(pickle.loads(counters))
            try:
                _write(self.model, self.folder, self.keep, state)
            finally:
                self.model.__dict__.update(now)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint_*.zip"), reverse=True)


def _flush_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets a folder be flushed."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run_state(model: SequenceAlgorithm) -> dict[str, Any]:
    assert model.env is not None
    normalize = model.get_vec_normalize_env()
    base = model.env.unwrapped
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - SB3 and gymnasium's older code draw from it
        "torch": th.get_rng_state(),
        "cuda": th.cuda.get_rng_state_all() if th.cuda.is_available() else [],
        "algorithm": model._rng.bit_generator.state,
        "num_envs": model.env.num_envs,
        "normalize": None if normalize is None else normalize.__getstate__(),
        "environment": base.get_state() if hasattr(base, "get_state") else None,
    }


def _restore_run_state(model: SequenceAlgorithm, state: dict[str, Any]) -> None:
    assert model.env is not None
    if model.env.num_envs != state["num_envs"]:
        raise ValueError(
            f"The run was checkpointed with {state['num_envs']} environment copies, but the environment passed to load_checkpoint has "
            f"{model.env.num_envs}: it would go on differently. Pass as many, or use {type(model).__name__}.load."
        )
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002 - see above
    th.set_rng_state(state["torch"])
    if state["cuda"] and th.cuda.is_available():
        th.cuda.set_rng_state_all(state["cuda"])
    model._rng.bit_generator.state = state["algorithm"]
    normalize = model.get_vec_normalize_env()
    if (normalize is None) != (state["normalize"] is None):
        raise ValueError(
            f"The run was checkpointed {'without' if state['normalize'] is None else 'with'} VecNormalize: pass load_checkpoint an "
            "environment that is wrapped in the same way."
        )
    if normalize is not None:
        normalize.__dict__.update(state["normalize"])
    base = model.env.unwrapped
    if state["environment"] is not None:
        if not hasattr(base, "set_state"):
            raise ValueError(
                f"The checkpoint holds the state of an environment, but {type(base).__name__} has no set_state(): pass load_checkpoint an "
                "environment made as it was for the run that was killed."
            )
        base.set_state(state["environment"])
