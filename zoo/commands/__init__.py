"""
The sub-commands of ``sppo-rl``, one module each, with ``add_arguments()`` and ``run()``. Scripts call ``compare`` and ``tune`` too.

- to look: ``envs``, ``demo`` (and its second half, ``demo_language``)
- to train: ``train``, ``train_agent``, ``train_llm``; to begin with: ``pretrain``, ``pretrain_llm``
- to measure: ``evaluate`` (of language models ``evaluate_llm``), ``enjoy``
- many runs: ``compare``, ``compare_llm``, ``tune``; on one page: ``plot``, ``report``
- options that several have: ``options``
"""
