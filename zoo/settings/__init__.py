"""
Hyperparameters of control runs.

- ``hyperparameters``: the YAML files, and an entry of them; ``values``: what may stand there; ``kinds``: a value against an annotation
- tuning: ``search`` (the space), ``files`` (what was found goes into the YAML)
"""
