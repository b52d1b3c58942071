"""Runs side by side: the same cases, paired differences, and what models do under the same conditions."""
