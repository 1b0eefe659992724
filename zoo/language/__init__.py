"""
Runs of language models.

- what a user writes: ``config``, ``study`` (variants of one), ``models`` and ``reward`` (names in it); ``check`` comes before loading
- a run: ``runs``, ``evaluation`` of it, ``memory`` it will need
- the tables: ``table`` of a comparison, ``benchmark_report`` of an evaluation
- the small task and the models that ship for it: ``chains`` (sums written out), ``prior``, ``prior_card``
"""
