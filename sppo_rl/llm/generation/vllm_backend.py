"""Generation with a vLLM engine in this process."""

from __future__ import annotations

import gc
import json
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch as th
from transformers import PreTrainedModel

from sppo_rl.llm.generation.protocol import Response, Sampling, require_version
from sppo_rl.llm.generation.vllm_extension import EXTENSION, require_vllm
from sppo_rl.llm.generation.vllm_sync import (
    Handover,
    check_excluded,
    merged_names,
    num_outputs,
    probe_tokens,
    read_response,
    request_options,
    request_seeds,
    require_synced,
    trainer_log_probs,
)
from sppo_rl.llm.lora import save_merged

_CPU_CACHE_BYTES = 2**30
"""Key-value cache on a CPU, where vLLM would take most of the machine's memory."""
_GPU_SHARE = 0.4
"""Of the GPU's memory for weights and cache: trainer and engine share the card."""


class _Engine(NamedTuple):
    """The engine of this process."""

    built_from: tuple[Any, ...]
    llm: Any


class _Process:
    """
    vLLM keeps its process groups in globals, so a process has one engine at a time.

    Generators of equal architecture and options share it (a model and the one loaded from its file); any other takes its place.
    """

    engine: ClassVar[_Engine | None] = None
    holder: ClassVar[object] = None
    """The generator whose weights the engine has."""
    asleep: ClassVar[bool] = False


class VLLMGenerator:
    """
    An engine of vLLM in this process; see :class:`~sppo_rl.llm.generation.Generator`.

    The engine is built at the first :meth:`sync_weights`, from a temporary folder of the model's configuration and weights, so it makes no
    difference where the model came from. A process has one engine at a time: a generator of another architecture takes the place of the
    one before, which is built anew when it is used again. Every update is checked
    (:func:`~sppo_rl.llm.generation.vllm_sync.require_synced`). Each response has a seed of its own, derived from ``sampling.seed``. On a
    GPU, :meth:`offload` frees the engine's memory.

    :param model: the policy's causal model
    :param dtype: what the engine computes in; never ``"auto"``, which would make bfloat16 of float32
    :param max_model_len: tokens of the longest prompt and response together
    :param vocab_size: ids from here on belong to no token; only to find out at once whether vLLM can exclude them
    :param engine: further arguments of ``vllm.LLM``, such as ``gpu_memory_utilization`` or ``max_num_seqs``
    :raises ValueError: if the model has more outputs without a token than vLLM can exclude
    """

    is_training_code = False

    def __init__(
        self,
        model: PreTrainedModel,
        dtype: th.dtype = th.float32,
        max_model_len: int | None = None,
        vocab_size: int | None = None,
        **engine: Any,
    ):
        check_excluded(vocab_size, num_outputs(model))
        self.model, self.dtype, self.max_model_len = model, dtype, max_model_len
        self.engine_options = engine
        self.version: int | None = None
        self._names: set[str] | None = None

    def sync_weights(self, named_parameters: Iterable[tuple[str, th.Tensor]], version: int) -> None:
        """
        Copy the weights into the engine and make sure that they arrived.

        :param named_parameters: under the names they have in the causal model; tied weights come once
        :param version: what these weights are called from now on
        :raises ValueError: if the names are not those of the model's checkpoint
        :raises RuntimeError: if the engine does not compute with them afterwards
        """
        self.version = None
        if self._names is None:
            self._names = merged_names(self.model)
        handover = Handover(named_parameters, self._names)
        llm = self._engine()
        _Process.holder = None
        if _Process.asleep:
            llm.wake_up(tags=["weights"])
        llm.collective_rpc("sppo_load", args=(handover,))
        if _Process.asleep:
            llm.wake_up(tags=["kv_cache"])
            _Process.asleep = False
        handover.finish()
        # cached keys and values are of the old weights
        if not llm.reset_prefix_cache():
            raise RuntimeError(
                "vLLM did not reset its prefix cache: requests of someone else are still running in this engine."
            )
        self._require_synced(llm, handover.sent)
        self.version, _Process.holder = version, self

    def generate(self, prompts: Sequence[np.ndarray], sampling: Sampling, version: int) -> list[Response]:
        """
        Sample one response to each prompt; see :class:`~sppo_rl.llm.generation.Generator`.

        :param prompts: token ids, (length,) int64 each
        :param sampling: see :class:`~sppo_rl.llm.generation.Sampling`
        :param version: the weights the caller means
        :raises ValueError: if a prompt and its response may not fit into ``max_model_len``
        """
        require_version(self.version if _Process.holder is self else None, version)
        longest = max(map(len, prompts), default=0) + sampling.max_new_tokens
        if self.max_model_len is not None and longest > self.max_model_len:
            raise ValueError(
                f"A prompt and its response may take {longest} tokens, but the engine was built for max_model_len={self.max_model_len}."
            )
        options = request_options(sampling, num_outputs(self.model))
        from vllm import SamplingParams

        requests = [SamplingParams(**options, seed=seed) for seed in request_seeds(sampling.seed, len(prompts))]
        responses = []
        for output in _run(self._engine(), prompts, requests):
            tokens, entries = output.outputs[0].token_ids, output.outputs[0].logprobs
            log_prob = [entry[token].logprob for token, entry in zip(tokens, entries, strict=True)]
            responses.append(read_response(tokens, log_prob, sampling))
        return responses

    def offload(self) -> None:
        """Free the engine's weights and cache on a GPU (vLLM's sleep level 2); nothing happens on a CPU, where vLLM has no sleep."""
        if self._sleeps and _Process.holder is self:
            self.version, _Process.holder = None, None
            self._engine().sleep(level=2)
            _Process.asleep = True

    @property
    def _sleeps(self) -> bool:
        return bool(self.engine_options.get("enable_sleep_mode", th.cuda.is_available()))

    def _require_synced(self, llm: Any, sent: dict[str, th.Tensor]) -> None:
        from vllm import SamplingParams

        stored = llm.collective_rpc("sppo_stored", args=(list(sent),))[0]
        # one more token is generated behind the probe
        tokens = probe_tokens(self.model, None if self.max_model_len is None else self.max_model_len - 1)
        probe = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        (output,) = _run(llm, [tokens], [probe])
        engine = [entry[token].logprob for token, entry in zip(tokens[1:].tolist(), output.prompt_logprobs[1:], strict=True)]
        require_synced(sent, stored, trainer_log_probs(self.model, tokens, self.dtype), np.array(engine), self.dtype)

    def _engine(self) -> Any:
        """The process's engine, built (anew) if it is not of this architecture and these options."""
        wanted = (
            _architecture(self.model),
            self.dtype,
            self.max_model_len,
            repr(sorted(self.engine_options.items())),
        )
        if _Process.engine is None or _Process.engine.built_from != wanted:
            if _Process.engine is not None:
                _Process.engine.llm.llm_engine.engine_core.shutdown()
            _Process.engine, _Process.holder, _Process.asleep = None, None, False
            gc.collect()
            _Process.engine = _Engine(wanted, self._build())
        return _Process.engine.llm

    def _build(self) -> Any:
        cuda = th.cuda.is_available()
        # in this process: weights are then handed over as they are. Threads stay unpinned, they are the trainer's too.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        with _undisturbed():
            try:
                import vllm
            except ImportError as error:
                raise ImportError(
                    f"generator='vllm' needs vLLM ({error}): pip install 'sppo-rl[vllm]' on a machine with a GPU; docs/llm.md says how on "
                    "one without."
                ) from error
            require_vllm(vllm.__version__)
            options = {
                "dtype": str(self.dtype).removeprefix("torch."),
                "max_model_len": self.max_model_len,
                "skip_tokenizer_init": True,
                "generation_config": "vllm",
                "logprobs_mode": "processed_logprobs",
                "worker_extension_cls": EXTENSION,
                "enable_sleep_mode": self._sleeps,
                # compiling takes half a minute on a CPU and gains nothing there
                "enforce_eager": not cuda,
                **({"gpu_memory_utilization": _GPU_SHARE} if cuda else {"kv_cache_memory_bytes": _CPU_CACHE_BYTES}),
                **self.engine_options,
            }
            with tempfile.TemporaryDirectory(prefix="sppo_rl_policy_") as folder:
                save_merged(self.model, folder)
                return vllm.LLM(model=folder, **options)


def _architecture(model: PreTrainedModel) -> str:
    """A model's configuration without the two entries that ``save_pretrained`` fills in."""
    settings = {key: value for key, value in model.config.to_dict().items() if key not in ("architectures", "dtype")}
    return json.dumps(settings, sort_keys=True, default=repr)


def _run(llm: Any, prompts: Sequence[np.ndarray], requests: list[Any]) -> list[Any]:
    """Outputs of vLLM in the order of the prompts."""
    given = [{"prompt_token_ids": prompt.tolist()} for prompt in prompts]
    with _eager(llm.llm_engine.vllm_config.model_config.enforce_eager):
        outputs: list[Any] = llm.generate(given, requests, use_tqdm=False)
    return outputs


def _eager(eager: bool) -> AbstractContextManager[Any]:
    """With ``enforce_eager`` vLLM still compiles small functions, which costs a fresh machine half a minute: run them as they are."""
    return th.compiler.set_stance("force_eager") if eager else nullcontext()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Building an engine seeds every generator of the process and disables ``torch.set_num_threads``: put both back."""
    python, numpy, torch = random.getstate(), np.random.get_state(), th.get_rng_state()  # noqa: NPY002
    cuda = th.cuda.get_rng_state_all() if th.cuda.is_available() else []
    set_num_threads, threads = th.set_num_threads, th.get_num_threads()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        th.set_rng_state(torch)
        if cuda:
            th.cuda.set_rng_state_all(cuda)
        th.set_num_threads = set_num_threads
        th.set_num_threads(threads)
