"""Tiny environments, policies and batches whose right answers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import nn

from sppo_rl.algorithm import SequenceAlgorithm
from sppo_rl.episodes import EpisodeBatch
from sppo_rl.fused import CHUNK
from sppo_rl.policies import DecisionEvaluation, MlpPolicy, SequencePolicy
from sppo_rl.value_scale import ValueScale
from sppo_rl.vec_env import BatchedVecEnv

TRACE_LONGEST = 20


class TraceEnv(gym.Env):
    """
    Observations are [draw, t]; the draw of the reset decides the length, and only long episodes succeed.

    A step pays ``0.001 * (action + 1) * (t + 1)`` if ``traced``, which tells whether actions, rewards and observations of a
    step stay together; otherwise the last step pays 1 if the episode was long and 0 if it was short.
    """

    observation_space = spaces.Box(0.0, 1000.0, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def __init__(self, traced: bool = False, longest: int = TRACE_LONGEST):
        self.traced, self.longest = traced, longest
        self.resets = 0
        self.steps = 0

    @staticmethod
    def length_of(draw: float, longest: int = TRACE_LONGEST) -> int:
        """Half of all episodes last one step, the others up to ``longest``."""
        return 1 if draw < 0.5 else 2 + int((draw - 0.5) * 2.0 * (longest - 2))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.draw = float(np.float32(self.np_random.random()))
        self.t = 0
        self.resets += 1
        return self._observe(), {}

    def _observe(self) -> np.ndarray:
        return np.array([self.draw, self.t], dtype=np.float32)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.t += 1
        done = self.t >= self.length_of(self.draw, self.longest)
        if self.traced:
            reward = 0.001 * (int(action) + 1) * self.t
        else:
            reward = float(done and self.draw >= 0.5)
        return self._observe(), reward, done, False, {"is_success": self.draw >= 0.5} if done else {}


class TraceBatch(BatchedVecEnv):
    """:class:`TraceEnv` as a batch that refuses to step a copy whose episode is over, or one that was never reset."""

    def __init__(self, num_envs: int, traced: bool = False, longest: int = TRACE_LONGEST):
        super().__init__(num_envs, TraceEnv.observation_space, TraceEnv.action_space)
        self.copies = [TraceEnv(traced, longest) for _ in range(num_envs)]
        self.over = np.ones(num_envs, dtype=bool)
        self.seeds_used: list[int | None] = []

    def reset_subset(self, indices: np.ndarray, seeds: Sequence[int | None]) -> np.ndarray:
        assert len(indices) == len(seeds)
        self.seeds_used.extend(seeds)
        self.over[indices] = False
        return np.stack([self.copies[i].reset(seed=seed)[0] for i, seed in zip(indices, seeds, strict=True)])

    def step_subset(
        self, indices: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        assert not self.over[indices].any(), "stepped a copy whose episode is over"
        assert (np.diff(indices) > 0).all()
        steps = [self.copies[i].step(action) for i, action in zip(indices, actions, strict=True)]
        observations, rewards, dones, _, infos = zip(*steps, strict=True)
        self.over[indices] = dones
        return np.stack(observations), np.array(rewards, dtype=np.float32), np.array(dones), list(infos)


class MatchEnv(gym.Env):
    """
    ``steps`` steps, each with a fresh sign in the observation; success (1.0, at the end) if every action named the sign.

    A random policy succeeds with probability ``2 ** -steps``. With ``box`` the action's sign counts. The outcome is
    ``offset + scale * success``.
    """

    def __init__(self, steps: int = 1, box: bool = False, offset: float = 0.0, scale: float = 1.0):
        self.length, self.box, self.offset, self.scale = steps, box, offset, scale
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32) if box else spaces.Discrete(2)

    def _observe(self) -> np.ndarray:
        self.sign = int(self.np_random.integers(2))
        return np.array([2.0 * self.sign - 1.0, self.t / self.length], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.right = 0, True
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        named = int(np.asarray(action).reshape(-1)[0] > 0.0)
        self.right &= named == self.sign
        self.t += 1
        done = self.t >= self.length
        reward = self.offset + self.scale * float(self.right) if done else 0.0
        return self._observe(), reward, done, False, {"is_success": self.right} if done else {}


class EndlessEnv(gym.Env):
    """Never ends; pays 0.01 a step."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return np.zeros(1, np.float32), 0.01, False, False, {}


class FixedRewardEnv(gym.Env):
    """Pays the rewards it was given, one a step, and ends with the last."""

    observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, rewards: Sequence[float]):
        self.rewards = list(rewards)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = self.rewards[self.t]
        self.t += 1
        return self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32), reward, self.t == len(self.rewards), False, {}


class SpaceEnv(gym.Env):
    """Any spaces; ``length`` steps of random observations; outcome 1."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, length: int = 3):
        self.observation_space, self.action_space, self.length = observation_space, action_space, length

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action) if not isinstance(self.action_space, spaces.Discrete) else action)
        self.t += 1
        return self.observation_space.sample(), float(self.t == self.length), self.t == self.length, False, {}


def dummy(factory: Any, copies: int) -> VecEnv:
    """Some copies of an environment in SB3's plain vectorised form."""
    return DummyVecEnv([factory] * copies)


class TokenPolicy(SequencePolicy):
    """
    Tables instead of networks, K decisions a step: the form language has, small enough to differentiate by hand.

    The observation is a context's number. An action equal to ``vocabulary`` is padding, as in the reasoning environment.
    """

    def __init__(self, contexts: int, decisions: int, vocabulary: int, learning_rate: float = 0.1):
        super().__init__(
            spaces.Box(0, contexts, (1,), np.float32), spaces.MultiDiscrete([vocabulary + 1] * decisions), squash_output=False
        )
        self.actor = nn.Parameter(th.randn(contexts, decisions, vocabulary))
        self.critic = nn.Parameter(th.randn(contexts, decisions))
        self.value_scale = ValueScale()
        self.vocabulary = vocabulary
        self.optimizer = th.optim.SGD([self.actor], lr=learning_rate)
        self.critic_optimizer = th.optim.SGD([self.critic], lr=learning_rate)

    def actor_parameters(self) -> list[nn.Parameter]:
        return [self.actor]

    def critic_parameters(self) -> list[nn.Parameter]:
        return [self.critic]

    def evaluate_decisions(self, observations: Any, actions: th.Tensor) -> DecisionEvaluation:
        mask = actions < self.vocabulary
        log_probs = th.log_softmax(self.actor[observations[:, 0].long()], dim=2)
        chosen = log_probs.gather(2, actions.clamp(max=self.vocabulary - 1).unsqueeze(2)).squeeze(2)
        entropy = -(log_probs.exp() * log_probs).sum(dim=2)
        return DecisionEvaluation(th.where(mask, chosen, 0.0), entropy, mask)

    def context_value_logits(self, contexts: Any) -> th.Tensor:
        return self.critic[contexts[:, 0].long(), 0]

    def decision_value_logits(self, observations: Any, actions: th.Tensor) -> th.Tensor:
        return self.critic[observations[:, 0].long()]

    def make_sampler(self, rng: np.random.Generator, deterministic: bool = False) -> Any:
        raise NotImplementedError

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def set_initial_value(self, value: float) -> None:
        raise NotImplementedError

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        raise NotImplementedError


def control_batch(
    lengths: Sequence[int],
    observation_size: int,
    actions: th.Tensor,
    old_log_prob: th.Tensor,
    observations: th.Tensor,
    outcome: th.Tensor | None = None,
    values: th.Tensor | None = None,
) -> EpisodeBatch:
    """A batch of control episodes (K = 1) from its parts; rewards are 0 but for the outcome at each end."""
    count, total = len(lengths), sum(lengths)
    assert observations.shape == (total, observation_size)
    sequence = th.arange(count).repeat_interleave(th.tensor(lengths))
    ends = th.tensor(lengths).cumsum(0) - 1
    outcome = th.zeros(count) if outcome is None else outcome
    rewards = th.zeros(total)
    rewards[ends] = outcome
    return EpisodeBatch(
        contexts=observations[ends + 1 - th.tensor(lengths)],
        observations=observations,
        actions=actions,
        mask=th.ones(total, 1, dtype=th.bool),
        old_log_prob=old_log_prob.reshape(total, 1),
        sampler_log_prob=None,
        sequence=sequence,
        rewards=rewards,
        outcome=outcome,
        values=values,
        group=th.arange(count),
        greedy_outcome=None,
    )


class GeneralPolicy(MlpPolicy):
    """Overrides a step, so it is trained by autograd; a plain MLP has a path of its own."""

    def evaluate_decisions(self, observations: Any, actions: th.Tensor) -> DecisionEvaluation:
        return super().evaluate_decisions(observations, actions)

    def context_value_logits(self, contexts: Any) -> th.Tensor:
        return super().context_value_logits(contexts)


def set_chunks(policy: Any, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process so many rows at a time, on either path."""
    policy.chunk_size = size
    monkeypatch.setattr("sppo_rl.fused.CHUNK", min(size, CHUNK))


def spy(model: SequenceAlgorithm) -> list[EpisodeBatch]:
    """Record the batches that the model trains on."""
    batches: list[EpisodeBatch] = []
    train = model.train

    def recording(batch: EpisodeBatch) -> None:
        batches.append(batch)
        train(batch)

    model.train = recording  # type: ignore[method-assign]
    return batches
