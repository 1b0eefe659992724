"""
SPPO on language models: a Hugging Face transformer as the actor, another as the critic, a whole response as one action.

- behind the engine's contract: ``policy`` (``TransformerPolicy``: actor, critic, optimizers, generator), ``options`` and ``lengths``
  (checks of what it was made with)
- networks: ``models`` (from a hub name, a folder, a configuration or an instance), ``loading``, ``lora``, ``critic`` (``PromptCritic``: the
  chance that a prompt is solved, read at its last token), ``retokenize`` (for a critic with a tokenizer of its own)
- a forward pass: ``tokens`` (prompts and responses as one sequence, log-probabilities without the whole batch's logits), ``packing``
- sampling: :mod:`.generation`
- measuring: ``callbacks`` and their ``run_files``, ``benchmarking`` (k responses to every problem), ``metrics``, ``calibration``,
  ``tail``, ``correlation``

``SPPO("TransformerPolicy", …)`` imports this package; nothing else in the core does. It needs the extra ``[llm]``.
"""

from sppo_rl.llm.critic import PromptCritic
from sppo_rl.llm.policy import TransformerPolicy

__all__ = ["PromptCritic", "TransformerPolicy"]
