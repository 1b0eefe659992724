"""The evaluation command on the real benchmark files, with a tiny byte-level model of random weights: the plumbing, not the score.

    SPPO_DATA=DATA python benchmarks/real_benchmarks.py

``DATA/benchmarks`` holds aime24, aime25, amc23, math500 and minerva as JSONL; without it they come from the hub. First every gold answer
is judged against itself, then a model that knows all bytes and nothing else answers each problem k times through ``sppo-rl evaluate``:
avg@k near zero is what it should reach.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import tempfile
import time
from pathlib import Path

import torch as th
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from sppo_rl.zoo.cli import main as sppo_rl_command
from sppo_rl.zoo.results import provenance

BENCHMARKS = ["aime24", "aime25", "amc23", "math500", "minerva"]


def save_byte_model(folder: Path) -> None:
    """A Hugging Face folder: 256 bytes and an end-of-sequence token, random weights."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<eos>": 0, **{letter: k + 1 for k, letter in enumerate(letters)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    th.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(vocabulary), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True, eos_token_id=0, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<eos>").save_pretrained(folder)


def check_golds() -> dict[str, dict[str, int]]:
    """Benchmark → gold answers accepted against themselves, and malformed ones left out."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        code = sppo_rl_command(["evaluate", "--benchmarks", *BENCHMARKS, "--check-golds"])
    print(text.getvalue())
    found = re.findall(r"^(\w+): (\d+) of (\d+) accepted, (\d+) malformed", text.getvalue(), re.MULTILINE)
    if code != 0 or len(found) != len(BENCHMARKS):
        raise SystemExit(f"checking the gold answers failed (exit code {code})")
    return {name: {"accepted": int(a), "of": int(n), "malformed": int(m)} for name, a, n, m in found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", type=int, default=4, help="responses to every problem (default 4)")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "real_benchmarks.json")
    arguments = parser.parse_args()
    golds = check_golds()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model, output = Path(folder) / "bytes", Path(folder) / "evaluation"
        save_byte_model(model)
        words = ["evaluate", "--model", str(model), "--benchmarks", *BENCHMARKS, "-k", str(arguments.k)]
        words += ["--max-new-tokens", str(arguments.max_new_tokens), "--output", str(output)]
        code = sppo_rl_command(words)
        if code != 0:
            raise SystemExit(code)
        summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
        completions = {file.stem: sum(1 for _ in file.open(encoding="utf-8")) for file in sorted(output.glob("*.jsonl"))}
        table = (output / "table.md").read_text(encoding="utf-8")
    result = {
        **provenance.describe(),
        "gold_answers": golds,
        "completions": completions,
        "seconds": round(time.perf_counter() - started, 1),
        "summary": {key: value for key, value in summary.items() if key != "model"},
        "table": table.splitlines(),
    }
    arguments.out.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
