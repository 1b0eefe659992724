"""An evaluation on the environment object asks the policy once for a whole batch, and poses every problem once in each pass."""

from __future__ import annotations

import numpy as np
import pytest

from sppo_rl import SPPO
from sppo_rl.callbacks import EvaluationCallback
from sppo_rl.envs.reasoning import MathReasoningEnv, Scorer, Verdict, from_pairs
from sppo_rl.evaluation import evaluate


@pytest.fixture
def language():
    """A tiny language model, an environment with eight problems, and what is counted: prompts of each call, golds judged."""
    pytest.importorskip("transformers", reason="needs the [llm] extra")
    from tests.llm.conftest import TOKENIZER, tiny_config

    class Graded(Scorer):
        """Eleven rewards, that depend on problem and response."""

        golds, closed = [], False

        def score(self, problems, responses, response_ids):
            self.golds += [int(problem.answer) for problem in problems]
            texts = [problem.prompt + response for problem, response in zip(problems, responses, strict=True)]
            return [Verdict(sum(map(ord, text)) % 11 / 10, "partly") for text in texts]

        def close(self):
            self.closed = True

    scorer = Graded()
    env = MathReasoningEnv(from_pairs([(f"{k}?", str(k)) for k in range(8)]), TOKENIZER, 8, 2, scorer)
    networks = {"model": tiny_config(), "critic": tiny_config(16, 1)}
    model = SPPO(
        "TransformerPolicy", env, n_episodes=4, batch_size=4, n_epochs=1, policy_kwargs=networks, seed=0, device="cpu"
    )
    calls, make_sampler = [], model.policy.make_sampler

    def counting(*args):
        sample = make_sampler(*args)
        return lambda observations, copies: calls.append(len(copies)) or sample(observations, copies)

    model.policy.make_sampler = counting
    return model, env, scorer, calls


@pytest.mark.parametrize("deterministic", [False, True])
def test_an_environment_that_offers_its_batched_form_answers_all_prompts_in_one_call(language, deterministic):
    model, env, scorer, calls = language
    batched = env.batched(8)
    batched.seed(3)
    expected = evaluate(model, batched, 8, deterministic, seed=3)
    del calls[:], scorer.golds[:]
    result = evaluate(model, env, 8, deterministic, seed=3)
    assert calls == [8]
    assert sorted(scorer.golds) == list(range(8))
    np.testing.assert_array_equal(result.outcomes, expected.outcomes)
    assert len(set(result.outcomes)) > 2
    np.testing.assert_array_equal(result.response_tokens, expected.response_tokens)
    assert not scorer.closed


def test_the_problems_of_an_evaluation_depend_on_its_seed_alone(language, monkeypatch):
    model, env, scorer, calls = language
    monkeypatch.setattr("sppo_rl.evaluation.BATCHED_COPIES", 4)

    def posed(n_episodes, seed):
        del scorer.golds[:]
        evaluate(model, env, n_episodes, seed=seed)
        return list(scorer.golds)

    twelve = posed(12, 0)
    assert calls == [4, 4, 4]
    assert sorted(twelve[:8]) == list(range(8))
    env.reset(seed=9)
    assert posed(5, 0) == twelve[:5]
    assert posed(5, 1) != twelve[:5]


def test_the_callback_evaluates_in_the_batched_form_too(language):
    model, env, _, calls = language
    callback = EvaluationCallback(env, every=4, n_episodes=8)
    model.learn(4, callback=callback)
    # sampled and greedy before the update and after it, which is one call of four episodes itself
    assert calls == [8, 8, 4, 8, 8]
    assert callback.rows[-1]["greedy_mean_return"] == evaluate(model, env, 8, deterministic=True).mean_return
