"""A critic that reads the prompt's text with a tokenizer of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch as th

from sppo_rl import PPO, SPPO
from sppo_rl.llm import PromptCritic
from sppo_rl.llm.retokenize import Retokenizer
from tests.llm.conftest import TOKENIZER, echo_env, tiny_config
from tests.llm.test_policy import make, observe, with_live_head


def two_characters() -> Any:
    """Another family: other ids, pairs of characters as one token, and a beginning of sequence of its own."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [*"cba=+?9876543210", "<eos>"]
    vocabulary = {"<s>": 0, "<unk>": 1, **{letter: k + 2 for k, letter in enumerate(letters)}, "ab": 30, "2?": 31}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "merged_with_next")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


OTHER = two_characters()


def test_prompts_by_hand() -> None:
    ids = th.tensor([TOKENIZER.encode("ab2?"), [*TOKENIZER.encode("0?"), 0, 0]])
    found, lengths = Retokenizer(TOKENIZER, OTHER)(ids, th.tensor([4, 2]))
    spelled = [OTHER.convert_ids_to_tokens(row[:length].tolist()) for row, length in zip(found, lengths, strict=True)]
    assert [row[0] for row in spelled] == ["<s>", "<s>"]
    assert ["".join(row[1:]) for row in spelled] == ["ab2?", "0?"], "padding is no part of the text"


def test_marks_of_the_policys_template_are_kept_as_text() -> None:
    ids = th.tensor([[*TOKENIZER.encode("0"), TOKENIZER.eos_token_id, *TOKENIZER.encode("1")]])
    seen = []

    class Spy:
        def encode(self, text: str) -> list[int]:
            seen.append(text)
            return [5]

    Retokenizer(TOKENIZER, Spy())(ids, th.tensor([3]))
    assert seen == ["0<eos>1"]


def test_a_prompt_is_translated_once() -> None:
    texts = []

    class Counting:
        def encode(self, text: str) -> list[int]:
            texts.append(text)
            return list(range(1, len(text) + 1))

    translate = Retokenizer(TOKENIZER, Counting(), longest=3)
    ids = th.tensor([TOKENIZER.encode("0?"), TOKENIZER.encode("1?"), TOKENIZER.encode("0?")])
    for _ in range(2):
        found, lengths = translate(ids, th.tensor([2, 2, 1]))
        assert found.tolist() == [[1, 2], [1, 2], [1, 0]]
        assert lengths.tolist() == [2, 2, 1]
    assert sorted(texts) == ["0", "0?", "1?"]
    with pytest.raises(ValueError, match="4 tokens in the critic's tokenizer, and the critic reads 3 at most"):
        translate(th.tensor([TOKENIZER.encode("ab2?")]), th.tensor([4]))


def test_the_critic_reads_its_own_tokens() -> None:
    policy = with_live_head(make(critic=tiny_config(vocab_size=40), tokenizer=TOKENIZER, critic_tokenizer=OTHER))
    critic = policy.critic
    assert critic is not None
    prompts = ["ab2?", "0?", "c"]
    ids = observe([TOKENIZER.encode(prompt) for prompt in prompts])
    with th.no_grad():
        found = policy.context_value_logits(ids)
        for value, prompt in zip(found, prompts, strict=True):
            alone = critic.model(input_ids=th.tensor([OTHER.encode(prompt)])).logits[0, -1, 0]
            th.testing.assert_close(value, alone, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(critic.predict_solvability(prompts), th.sigmoid(found), rtol=1e-5)


def test_training_saving_exporting(tmp_path: Path) -> None:
    """The critic's vocabulary is smaller than the policy's: ids that were not translated would be out of range."""
    OTHER.save_pretrained(tmp_path / "other")
    kwargs = {
        "model": tiny_config(16, 1),
        "critic": tiny_config(8, 1, vocab_size=40),
        "critic_tokenizer": str(tmp_path / "other"),
    }
    model = SPPO("TransformerPolicy", echo_env(), n_episodes=16, policy_kwargs=kwargs, seed=0, device="cpu").learn(64)
    prompts = ["0?", "ab2?"]
    expected = model.policy.critic.predict_solvability(prompts)  # type: ignore[attr-defined]
    assert expected[0] != expected[1]
    model.save(tmp_path / "model")
    (tmp_path / "other" / "tokenizer.json").unlink()  # a loaded model needs no other file
    loaded = SPPO.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(loaded.policy.critic.predict_solvability(prompts), expected)  # type: ignore[attr-defined]
    model.policy.export(tmp_path / "export")  # type: ignore[operator]
    critic = PromptCritic.load(tmp_path / "export" / "critic")
    np.testing.assert_array_equal(critic.predict_solvability(prompts), expected)


def test_an_exported_critic_brings_its_tokenizer_along(tmp_path: Path) -> None:
    """As ``critic`` of a new policy it would otherwise be shown ids that mean something else to it."""
    policy = with_live_head(make(critic=tiny_config(vocab_size=40), tokenizer=TOKENIZER, critic_tokenizer=OTHER))
    policy.export(tmp_path)
    again = make(critic=tmp_path / "critic", tokenizer=TOKENIZER)
    assert again.critic is not None
    assert again.critic.own_tokenizer is not None
    ids = observe([TOKENIZER.encode(prompt) for prompt in ("ab2?", "0?", "c")])
    with th.no_grad():
        th.testing.assert_close(again.context_value_logits(ids), policy.context_value_logits(ids))


def test_messages() -> None:
    with pytest.raises(ValueError, match="needs the policy's too"):
        make(critic=tiny_config(vocab_size=40), critic_tokenizer=OTHER)
    with pytest.raises(ValueError, match="critic knows 20 tokens, but its tokenizer uses 21"):
        make(critic=tiny_config(vocab_size=20), tokenizer=TOKENIZER, critic_tokenizer=OTHER)
    kwargs = {"model": tiny_config(), "critic": tiny_config(vocab_size=40), "critic_tokenizer": OTHER}
    with pytest.raises(ValueError, match="read before every token of the response"):
        PPO("TransformerPolicy", echo_env(), n_episodes=4, policy_kwargs=kwargs, device="cpu")
