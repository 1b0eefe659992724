"""The zoo: trains, evaluates, compares and plots."""
