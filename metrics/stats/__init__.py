"""Intervals and tests: the jackknife over conversations, differences between runs, effects of factors."""
