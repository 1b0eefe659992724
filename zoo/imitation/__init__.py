"""How control priors are made: ``experts``, their ``demonstrations``, and ``cloning`` of these."""
