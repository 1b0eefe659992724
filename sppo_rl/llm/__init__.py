"""
SPPO on language models: a Hugging Face transformer as the actor, another as the critic, a whole response as one action.

===========================  ==============================================================================================
:mod:`.policy`               ``TransformerPolicy``: actor, critic, optimizers and generator behind the engine's contract
:mod:`.critic`               ``PromptCritic``: the chance that a prompt is solved, read at its last token
:mod:`.tokens`               prompts and responses as one sequence; log-probabilities of tokens without the whole batch's logits
:mod:`.models`               models from a hub name, a folder, a configuration or an instance
:mod:`.generation`           the ``Generator`` protocol and its transformers backend
===========================  ==============================================================================================

``SPPO("TransformerPolicy", …)`` imports this package; nothing else in the core does. It needs the extra ``[llm]``.
"""

from sppo_rl.llm.critic import PromptCritic
from sppo_rl.llm.policy import TransformerPolicy

__all__ = ["PromptCritic", "TransformerPolicy"]
