"""Mathematical reasoning as a bandit: one response, one verified outcome."""
