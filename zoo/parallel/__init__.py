"""
Many runs side by side, of either kind: ``jobs`` hands them out, ``worker`` does them in each process; ``comparison``: those of control
runs, and what they come to.
"""
