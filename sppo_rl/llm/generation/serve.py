"""Start a vLLM server that :class:`~sppo_rl.llm.generation.VLLMServerGenerator` can use.

::

    python -m sppo_rl.llm.generation.serve MODEL --port 8000 [options of vLLM's server]

The server takes weights from whoever can reach its port, so it listens on 127.0.0.1 unless ``--host`` says otherwise.
"""

from __future__ import annotations

import os
import sys

from sppo_rl.llm.generation.vllm_extension import EXTENSION


def command(model: str, options: list[str]) -> list[str]:
    """
    The command line of vLLM's own server.

    :param model: hub name or local folder
    :param options: given by the user; where one is repeated, the user's counts
    """
    ours = ["--host", "127.0.0.1", "--skip-tokenizer-init", "--enable-scale-out", "--generation-config", "vllm"]
    ours += ["--logprobs-mode", "processed_logprobs", "--worker-extension-cls", EXTENSION]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, *ours, *options]


def main() -> None:
    """Replace this process by the server."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python -m sppo_rl.llm.generation.serve MODEL [--port 8000] [options of vLLM's server]")
    # weights and caches are reached through routes that vLLM only has in this mode
    environment = {**os.environ, "VLLM_SERVER_DEV_MODE": "1"}
    line = command(sys.argv[1], sys.argv[2:])
    os.execve(line[0], line, environment)


if __name__ == "__main__":
    main()
