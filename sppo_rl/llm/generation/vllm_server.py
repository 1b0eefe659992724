"""Generation by a vLLM server over HTTP: on other GPUs of this machine, or on another that shares a folder."""

from __future__ import annotations

import json
import os
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from safetensors.torch import save_file
from transformers import PreTrainedModel

from sppo_rl.llm.generation.protocol import Response, Sampling, require_version
from sppo_rl.llm.generation.vllm_extension import require_vllm
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

START = "python -m sppo_rl.llm.generation.serve MODEL --port PORT"


class VLLMServerGenerator:
    """
    A server that ``python -m sppo_rl.llm.generation.serve MODEL`` has started; see :class:`~sppo_rl.llm.generation.Generator`.

    Weights go through a safetensors file in a folder that both sides see. The server notes their version with every response, so weights
    that someone else changed, or a server that was started anew, are noticed. Use one server for one run, in a network you trust.

    :param model: the policy's causal model; the server must have been started with the same architecture
    :param dtype: what the server computes in (its ``--dtype``)
    :param url: of the server
    :param folder: where the weights are written, by the same path here and there; ``None`` for a temporary folder of this machine
    :param connections: requests under way at once
    :param timeout: seconds that one request may take
    :param start_timeout: seconds to wait for a server that is still starting
    :param sleeps: whether :meth:`offload` frees the server's memory; it must have been started with ``--enable-sleep-mode``
    :param vocab_size: ids from here on belong to no token; only to find out at once whether vLLM can exclude them
    :raises ValueError: if the model has more outputs without a token than vLLM can exclude
    """

    is_training_code = False

    def __init__(
        self,
        model: PreTrainedModel,
        dtype: th.dtype = th.float32,
        url: str = "http://127.0.0.1:8000",
        folder: str | None = None,
        connections: int = 256,
        timeout: float = 3600.0,
        start_timeout: float = 0.0,
        sleeps: bool = False,
        vocab_size: int | None = None,
    ):
        check_excluded(vocab_size, num_outputs(model))
        self.model, self.dtype, self.url, self.folder = model, dtype, url.rstrip("/"), folder
        self.connections, self.timeout, self.start_timeout, self.sleeps = connections, timeout, start_timeout, sleeps
        self.version: int | None = None
        self._names: set[str] | None = None
        self._label: str | None = None
        self._asleep = False
        self._met = False
        # a proxy of the environment is for the world outside
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def sync_weights(self, named_parameters: Iterable[tuple[str, th.Tensor]], version: int) -> None:
        """
        Have the server read the weights and make sure that it did.

        :param named_parameters: under the names they have in the causal model; tied weights come once
        :param version: what these weights are called from now on
        :raises ConnectionError: if there is no server
        :raises ValueError: if the names are not those of the model's checkpoint
        :raises RuntimeError: if the server does not compute with the weights afterwards
        """
        self.version = None
        if self._names is None:
            self._names = merged_names(self.model)
        handover = Handover(named_parameters, self._names)
        if not self._met:
            self._meet()
        with tempfile.TemporaryDirectory(prefix="sppo_rl_weights_", dir=self.folder) as folder:
            # a server of another user must be able to read it
            os.chmod(folder, 0o755)
            path = Path(folder).resolve() / "model.safetensors"
            # off the GPU one at a time
            save_file({name: weight.to("cpu", self.dtype).contiguous() for name, weight in handover}, path)
            handover.finish()
            if self._asleep:
                self._post("/wake_up?tags=weights")
            self._rpc("sppo_load_file", str(path))
        if self._asleep:
            self._post("/wake_up?tags=kv_cache")
            self._asleep = False
        # cached keys and values are of the old weights
        if not self._post("/reset_prefix_cache")["success"]:
            raise RuntimeError(
                f"The vLLM server at {self.url} did not reset its prefix cache: someone else's requests are running."
            )
        self._label = f"{uuid.uuid4()}-{version}"
        self._post("/update_weight_version", {"new_version": self._label})
        self._require_synced(handover.sent)
        self.version = version

    def generate(self, prompts: Sequence[np.ndarray], sampling: Sampling, version: int) -> list[Response]:
        """
        Sample one response to each prompt; see :class:`~sppo_rl.llm.generation.Generator`.

        :param prompts: token ids, (length,) int64 each
        :param sampling: see :class:`~sppo_rl.llm.generation.Sampling`
        :param version: the weights the caller means
        :raises ConnectionError: if there is no server
        :raises RuntimeError: if the server sampled with other weights
        """
        require_version(self.version, version)
        options = request_options(sampling, num_outputs(self.model))

        def ask(prompt: np.ndarray, seed: int) -> Response:
            choice = self._generate(prompt, {**options, "seed": seed})["choices"][0]
            log_prob = [entry["logprob"] for entry in choice["logprobs"]["content"]]
            return read_response(choice["token_ids"], log_prob, sampling)

        seeds = request_seeds(sampling.seed, len(prompts))
        with ThreadPoolExecutor(min(self.connections, max(len(prompts), 1))) as pool:
            return list(pool.map(ask, prompts, seeds))

    def offload(self) -> None:
        """Free the server's weights and cache (vLLM's sleep level 2), if it was said that it can."""
        if self.sleeps and self.version is not None:
            self.version = None
            self._post("/sleep?level=2")
            self._asleep = True

    def _require_synced(self, sent: dict[str, th.Tensor]) -> None:
        stored = self._rpc("sppo_stored", list(sent))[0]
        tokens = probe_tokens(self.model)
        options = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0, "detokenize": False}
        entries = self._generate(tokens, options)["prompt_logprobs"][1:]
        engine = [entry[str(token)]["logprob"] for token, entry in zip(tokens[1:].tolist(), entries, strict=True)]
        require_synced(sent, stored, trainer_log_probs(self.model, tokens, self.dtype), np.array(engine), self.dtype)

    def _generate(self, prompt: np.ndarray, options: dict[str, Any]) -> dict[str, Any]:
        """One request, token ids in and out."""
        answer: dict[str, Any] = self._post(
            "/inference/v1/generate", {"token_ids": prompt.tolist(), "sampling_params": options}
        )
        labels = {span["version"] for span in answer["choices"][0]["weight_versions"]}
        if labels != {self._label}:
            raise RuntimeError(
                f"The vLLM server at {self.url} sampled with the weights {sorted(labels)}, not with those it was sent ({self._label}): it "
                "was started anew or serves another run. Start one server for each run."
            )
        return answer

    def _meet(self) -> None:
        """Wait for the server and look at its version."""
        deadline = time.monotonic() + self.start_timeout
        while True:
            try:
                version = self._call("/version")["version"]
                break
            except ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
        require_vllm(version)
        self._met = True

    def _rpc(self, method: str, *args: Any) -> Any:
        """Call a method of the worker extension."""
        return self._post("/collective_rpc", {"method": method, "args": list(args)})["results"]

    def _post(self, path: str, body: Any = None) -> Any:
        return self._call(path, json.dumps({} if body is None else body).encode())

    def _call(self, path: str, data: bytes | None = None) -> Any:
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=self.timeout) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise RuntimeError(
                f"The vLLM server at {self.url} answered {path} with {error.code}: {error.read()[:500].decode(errors='replace')}. It must "
                f"have been started with {START}, and its log says more."
            ) from error
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            raise ConnectionError(f"No vLLM server answers at {self.url} ({reason}). Start one with {START}") from error
