"""TransformerPolicy: a causal language model behind the engine's contract."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from sppo_rl.collection import Sampled, Sampler
from sppo_rl.episodes import Arrays, Tensors
from sppo_rl.estimators import CriticKind
from sppo_rl.llm.critic import PromptCritic, make_critic
from sppo_rl.llm.generation import Generator, Sampling, make_generator
from sppo_rl.llm.lengths import check_lengths, check_token_critic
from sppo_rl.llm.lora import LoraOptions, add_lora, merged_parameters, save_merged
from sppo_rl.llm.models import ModelSource, Saved, causal_model, end_tokens, output_layer
from sppo_rl.llm.options import (
    DTYPES,
    adamw,
    check_operational,
    check_options,
    check_vocabulary,
    end_of_sequence,
    kept,
    point_out_control_rate,
    read_spaces,
)
from sppo_rl.llm.packing import Reader
from sppo_rl.llm.tokens import by_token_budget, compute_in, lay_out, response_mask, token_log_probs
from sppo_rl.sequence_policy import DecisionEvaluation, SequencePolicy
from sppo_rl.value_scale import ValueScale

_TOKENS, _TOKENS_ON_A_CPU = 16384, 4096


class TransformerPolicy(SequencePolicy):
    """
    A Hugging Face causal language model as the actor and a :class:`~sppo_rl.llm.critic.PromptCritic` as the critic.

    A decision is a token. The observation is that of ``MathReasoningEnv``: ``Dict(prompt_ids, prompt_len, problem_id)``, the action
    ``MultiDiscrete([V + 1] * K)`` with V as padding. The token that ends a response is a decision; padding is none, and a response that
    reaches the token budget K has no end.

    Usage::

        model = SPPO(
            "TransformerPolicy", MathReasoningEnv(problems, tokenizer), learning_rate=1e-6, critic_learning_rate=5e-6, n_episodes=256,
            policy_kwargs={"model": "Qwen/Qwen2.5-1.5B-Instruct", "critic": "Qwen/Qwen2.5-0.5B-Instruct", "dtype": "bfloat16"},
        )

    :param observation_space: see above
    :param action_space: see above
    :param lr_schedule: of the actor; the engine sets both rates before every update
    :param model: hub name, local folder, configuration (weights from scratch) or an instance, which is copied; must be given
    :param critic: the same for the critic, of any size; ``None`` starts from the actor's weights
    :param critic_tokenizer: the critic's tokenizer, its hub name or folder, if it does not read the same token ids (see
        :class:`~sppo_rl.llm.retokenize.Retokenizer`); an exported critic brings its own. Not for PPO, whose critic reads each token
    :param lora: train adapters instead of the actor's weights: a ``peft.LoraConfig`` or its arguments
    :param critic_lora: the same for the critic; its head is trained as well
    :param with_critic: whether the algorithm trains a critic (GRPO, RLOO and ReMax do not); set by the engine
    :param tokenizer: kept for :meth:`export` and the critic's ``predict_solvability``; ``None`` takes the environment's
    :param use_chat_template: whether benchmarks and the critic put prompts into the chat template; ``None`` does what the environment does
    :param eos_token_id: the token that ends a response, or a list of several; ``None`` takes the tokenizer's and those of the model's
        ``generation_config``, whose chat turns may end with another one
    :param dtype: ``"float32"`` or ``"bfloat16"``: what forward and backward passes compute in. Weights and optimizer stay in float32: a
        step of 1e-6 is lost in bfloat16's eight bits.
    :param temperature: of sampling and of the training log-probabilities alike
    :param weight_decay: AdamW's, of the actor
    :param critic_weight_decay: AdamW's, of the critic
    :param gradient_checkpointing: compute activations anew in the backward pass: less memory, about a third more time
    :param tokens_per_pass: tokens in one forward and backward pass; ``None`` for 4096 on a CPU, where larger tensors fall out of its caches
        and are asked from the system anew each time, and 16384 elsewhere
    :param logits_per_pass: tokens whose logits exist at once
    :param packing: leave the padding out of forward and backward passes; ``None`` where a model can do it, ``True`` to insist, ``False``
        to put rows of similar length together, which adds less than a third
    :param responses_per_pass: responses generated side by side; ``None`` for all of an update
    :param generator: what samples responses: ``"transformers"`` (the model itself), ``"vllm"`` (an engine in this process) or
        ``"vllm-server"`` (over HTTP)
    :param generator_kwargs: of :class:`~sppo_rl.llm.generation.VLLMGenerator`, such as ``{"gpu_memory_utilization": 0.5}``, or of
        :class:`~sppo_rl.llm.generation.VLLMServerGenerator`, such as ``{"url": "http://127.0.0.1:8000"}``
    :param use_sde: gSDE is for continuous actions
    :raises ValueError: if spaces, vocabularies or a parameter do not fit; the message names it
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Callable[[float], float],
        model: ModelSource | None = None,
        critic: ModelSource | None = None,
        critic_tokenizer: Any = None,
        lora: LoraOptions | None = None,
        critic_lora: LoraOptions | None = None,
        with_critic: bool = True,
        tokenizer: Any = None,
        use_chat_template: bool | None = None,
        eos_token_id: int | list[int] | tuple[int, ...] | None = None,
        dtype: str = "float32",
        temperature: float = 1.0,
        weight_decay: float = 0.0,
        critic_weight_decay: float = 0.0,
        gradient_checkpointing: bool = False,
        tokens_per_pass: int | None = None,
        logits_per_pass: int = 1024,
        packing: bool | None = None,
        responses_per_pass: int | None = None,
        generator: str = "transformers",
        generator_kwargs: dict[str, Any] | None = None,
        use_sde: bool = False,
    ):
        # first, while only the parameters have names
        given = dict(locals())
        super().__init__(observation_space, action_space)
        self.max_new_tokens, self.vocabulary = read_spaces(observation_space, action_space)
        self._longest_prompt = spaces.flatdim(cast(spaces.Dict, observation_space)["prompt_ids"])
        check_options(given)
        point_out_control_rate(model, lr_schedule(1.0))
        self._options = kept(TransformerPolicy.__init__, given)
        self.use_chat_template = use_chat_template
        self.tokenizer, self.temperature, self.compute_dtype = tokenizer, temperature, DTYPES[dtype]
        self.reader = Reader(packing)
        self._make_networks(model, critic)
        self.value_scale = ValueScale()
        self._make_optimizers(lr_schedule(1.0))
        self._operate_with(self._options)

    def _make_networks(self, model: ModelSource | None, critic: ModelSource | None) -> None:
        """Actor and critic, their adapters, and what the actor ends a response with."""
        assert model is not None
        options = self._options
        self.model = causal_model(model)
        advice = "Pass it the model's own tokenizer; if that has tokens the model does not know, also vocab_size={}, the model's number."
        check_vocabulary("model", self.model, self.vocabulary, "the environment", advice)
        # a file of an earlier version was trained with the tokenizer's alone
        of_model = [] if isinstance(model, Saved) and model.generation_config is None else end_tokens(self.model)
        self.eos_token_id = end_of_sequence(options["eos_token_id"], self.tokenizer, of_model, self.vocabulary)
        self.critic: PromptCritic | None = None
        if options["with_critic"]:
            own = options["critic_tokenizer"], options["critic_lora"], self.compute_dtype, options["packing"]
            self.critic = make_critic(critic, self.model, self.vocabulary, self.tokenizer, *own)
            self.critic.use_chat_template = self.use_chat_template
        self._weights_missing = isinstance(model, Saved)
        if not self._weights_missing:
            check_lengths(self.model, self.critic, self._longest_prompt, self.max_new_tokens)
        if options["lora"] is not None:
            add_lora(self.model, options["lora"], self._weights_missing, self.compute_dtype)
        if options["gradient_checkpointing"]:
            for network in (self.model, *([self.critic.model] if self.critic is not None else [])):
                network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def _make_optimizers(self, rate: float) -> None:
        self.optimizer = adamw(self.actor_parameters(), rate, self._options["weight_decay"])
        self.critic_optimizer = adamw(self.critic_parameters(), rate, self._options["critic_weight_decay"])
        self.weight_version = 0
        """Steps of the actor's optimizer; names the weights that a generator holds."""
        self.optimizer.register_step_post_hook(self._count_step)

    def _operate_with(self, options: dict[str, Any]) -> None:
        """Make the generator, and keep what bounds a pass."""
        self.generator: Generator = make_generator(
            options["generator"],
            self.model,
            self.compute_dtype,
            self._longest_prompt + self.max_new_tokens,
            options["responses_per_pass"],
            options["generator_kwargs"],
            self.vocabulary,
        )
        self._options = options
        self.tokens_per_pass, self.logits_per_pass = options["tokens_per_pass"], options["logits_per_pass"]

    def change_operation(self, **changes: Any) -> None:
        """
        Change how the work is done: a run may go on with a server at another address, or on a GPU with less memory.

        :param changes: parameters of the constructor among :data:`~sppo_rl.llm.options.OPERATIONAL`
        :raises ValueError: if one is out of its range, or another one; nothing is changed then
        """
        check_operational(changes)
        self._operate_with({**self._options, **changes})

    @classmethod
    def complete_kwargs(cls, kwargs: dict[str, Any], env: VecEnv | None, with_critic: bool) -> dict[str, Any]:
        """
        Take the environment's tokenizer and use of its chat template, and no critic where the algorithm has none.

        :param kwargs: given by the user
        :param env: with a ``task`` that has a ``tokenizer``, as ``MathReasoningEnv`` has
        :param with_critic: whether the algorithm trains a critic
        """
        for name in ("tokenizer", "use_chat_template"):
            if kwargs.get(name) is None and env is not None:
                # an environment of the user's own may have none; then eos_token_id must be given
                with contextlib.suppress(AttributeError):
                    kwargs = {**kwargs, name: getattr(env.get_attr("task")[0], name)}
        return {**kwargs, "with_critic": with_critic}

    def rebuild_kwargs(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """
        Put what loading needs in the place of names and instances: it builds networks without weights and then reads those, offline.

        :param kwargs: what this policy was made from
        """
        rebuilt = {**kwargs, "eos_token_id": self.eos_token_id}
        rebuilt["model"] = Saved(self.model.config, self.model.generation_config)
        if self.critic is not None:
            rebuilt |= {"critic": Saved(self.critic.model.config), "critic_tokenizer": self.critic.own_tokenizer}
        return rebuilt

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """See :class:`torch.nn.Module`; a policy made by loading has no weights before this."""
        result = super().load_state_dict(*args, **kwargs)
        self._weights_missing = False
        return result

    def _require_weights(self) -> None:
        if self._weights_missing:
            raise RuntimeError(
                "This policy was made from the policy_kwargs of another one, which name no weights. Load that one's parameters first "
                "(set_parameters), or pass the model itself: policy_kwargs={'model': …}."
            )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        spaces_and_rate = {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "lr_schedule": self._dummy_schedule,
        }
        return {**spaces_and_rate, **self.rebuild_kwargs(self._options)}

    # ---------------------------------------------------------------- parameters

    def actor_parameters(self) -> list[nn.Parameter]:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`; frozen parameters are left out."""
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def critic_parameters(self) -> list[nn.Parameter]:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`; frozen parameters are left out."""
        if self.critic is None:
            return []
        return [parameter for parameter in self.critic.parameters() if parameter.requires_grad]

    def _count_step(self, *_: Any) -> None:
        self.weight_version += 1

    # ---------------------------------------------------------------- sampling

    def make_sampler(self, rng: np.random.Generator, deterministic: bool = False) -> Sampler:
        """
        See :class:`~sppo_rl.sequence_policy.SequencePolicy`; hands the weights to the generator.

        :param rng: seeds each batch of responses
        :param deterministic: greedy decoding
        """
        self._require_weights()
        version = self.weight_version
        self.generator.sync_weights(merged_parameters(self.model), version)

        def sample(observations: Arrays, copies: np.ndarray) -> Sampled:
            assert isinstance(observations, dict)
            seed = 0 if deterministic else int(rng.integers(2**62))
            return self._respond(observations["prompt_ids"], observations["prompt_len"], seed, deterministic, version)

        return sample

    def _respond(self, prompt_ids: np.ndarray, prompt_len: np.ndarray, seed: int, greedy: bool, version: int) -> Sampled:
        lengths = prompt_len.reshape(-1)
        sampling = Sampling(self.max_new_tokens, self.eos_token_id, self.vocabulary, self.temperature, seed, greedy)
        prompts = [ids[:length] for ids, length in zip(prompt_ids, lengths, strict=True)]
        actions = np.full((len(prompts), self.max_new_tokens), self.vocabulary, dtype=np.int64)
        log_prob = np.zeros(actions.shape, dtype=np.float32)
        for row, response in enumerate(self.generator.generate(prompts, sampling, version)):
            actions[row, : len(response.token_ids)] = response.token_ids
            log_prob[row, : len(response.token_ids)] = response.log_prob
        return Sampled(actions, log_prob)

    def sampling_ended(self) -> None:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: the generator hands its memory back."""
        self.generator.offload()

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        seed = 0 if deterministic else int(th.randint(2**62, ()))
        self._require_weights()
        self.generator.sync_weights(merged_parameters(self.model), self.weight_version)
        prompt_ids, prompt_len = observation["prompt_ids"].cpu().numpy(), observation["prompt_len"].cpu().numpy()
        return th.as_tensor(self._respond(prompt_ids, prompt_len, seed, deterministic, self.weight_version).actions)

    def sampler_trains(self) -> bool:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`."""
        return self.generator.is_training_code

    def decision_mask(self, actions: th.Tensor) -> th.Tensor:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: the response's tokens."""
        return response_mask(actions, self.vocabulary)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: token ids as they are."""
        return actions

    # ---------------------------------------------------------------- evaluation

    def chunks(self, rows: th.Tensor, observations: Tensors, actions: th.Tensor | None = None) -> Iterator[th.Tensor]:
        """
        Split rows by their tokens; see :class:`~sppo_rl.sequence_policy.SequencePolicy`.

        :param rows: (n,) int64
        :param observations: of the whole batch
        :param actions: of the whole batch; ``None`` where only prompts are read
        """
        assert isinstance(observations, dict)
        lengths = observations["prompt_len"][rows].flatten()
        if actions is not None:
            lengths = lengths + (response_mask(actions[rows], self.vocabulary).sum(dim=1) - 1).clamp(min=0)
        budget = self.tokens_per_pass or (_TOKENS_ON_A_CPU if self.device.type == "cpu" else _TOKENS)
        yield from by_token_budget(rows, lengths, budget)

    def evaluate_decisions(self, observations: Tensors, actions: th.Tensor) -> DecisionEvaluation:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`; at the sampling temperature, over the V tokens that can be sampled."""
        assert isinstance(observations, dict)
        self._require_weights()
        layout = lay_out(observations["prompt_ids"], observations["prompt_len"].flatten(), actions, self.vocabulary)
        with compute_in(self.compute_dtype, actions.device):
            hidden = self.reader(self.model.base_model, layout.ids, layout.lengths, layout.rows, layout.columns)
            log_prob, entropy = token_log_probs(
                output_layer(self.model),
                hidden,
                layout.targets,
                self.vocabulary,
                self.temperature,
                self.logits_per_pass,
            )
        nothing = th.zeros(layout.mask.shape, device=actions.device)
        return DecisionEvaluation(
            nothing.masked_scatter(layout.mask, log_prob), nothing.masked_scatter(layout.mask, entropy), layout.mask
        )

    def context_value_logits(self, contexts: Tensors) -> th.Tensor:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: read at each prompt's last token."""
        assert isinstance(contexts, dict)
        return self._critic().prompt_logits(contexts["prompt_ids"], contexts["prompt_len"].flatten())

    def decision_value_logits(self, observations: Tensors, actions: th.Tensor) -> th.Tensor:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: read before each token of the response."""
        assert isinstance(observations, dict)
        layout = lay_out(observations["prompt_ids"], observations["prompt_len"].flatten(), actions, self.vocabulary)
        values = self._critic()(layout.ids, layout.lengths, layout.rows, layout.columns)
        return th.zeros(layout.mask.shape, device=actions.device).masked_scatter(layout.mask, values)

    def set_initial_value(self, value: float) -> None:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: the head's weights become 0 and its bias the value."""
        bias = self.value_scale.output_for(value)
        if self.critic is not None:
            with th.no_grad():
                self.critic.head.weight.zero_()
                self.critic.head.bias.fill_(bias)

    def _critic(self) -> PromptCritic:
        if self.critic is None:
            raise ValueError("This policy was made for an algorithm without a critic: there is no value to read.")
        self._require_weights()
        return self.critic

    def check_critic(self, kind: CriticKind) -> None:
        """See :class:`~sppo_rl.sequence_policy.SequencePolicy`: one that is read before every token must read the policy's tokens."""
        if kind == "decision" and self.critic is not None:
            check_token_critic(self.critic, self._longest_prompt, self.max_new_tokens)

    # ---------------------------------------------------------------- export

    def export(self, folder: str | Path, with_critic: bool = True) -> None:
        """
        Write ``folder/policy`` and ``folder/critic`` (where there is one) as plain Hugging Face folders, each with its tokenizer;
        adapters are merged.

        ``AutoModelForCausalLM.from_pretrained`` reads the first, ``PromptCritic.load`` and
        ``AutoModelForTokenClassification.from_pretrained`` the second; both serve as ``model`` and ``critic`` of a new policy.

        :param folder: made if it does not exist
        :param with_critic: ``False`` leaves the critic out
        :raises ValueError: if the critic predicts normalised returns, which no one else could read
        """
        critic = self.critic if with_critic else None
        if critic is not None and not self.value_scale.is_probability:
            raise ValueError(
                "The critic predicts returns normalised by running statistics, which a Hugging Face folder has no place for. Export the "
                "actor alone with with_critic=False, or train with critic_loss='bce'."
            )
        save_merged(self.model, Path(folder) / "policy")
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(Path(folder) / "policy")
        if critic is not None:
            critic.save(Path(folder) / "critic")
