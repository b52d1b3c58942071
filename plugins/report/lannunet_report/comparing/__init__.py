"""Comparison of runs: the same cases, paired differences, and training under the same conditions."""
