"""
Control policies that ship, in ``zoo/priors/`` and ``zoo/agents/``: ``prior``, ``agent``; their cards: ``prior_card``, ``card``; what
they are seen against: ``untrained`` networks.
"""
