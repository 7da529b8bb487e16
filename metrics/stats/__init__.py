"""Intervals and tests: the bootstrap, differences between runs, effects of factors."""
