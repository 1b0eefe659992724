"""How control priors are made: ``experts``, their ``demonstrations``, ``cloning`` of these; ``priors``: each task's recipe, the whole."""
