"""Runs: carried out, forked, and attributed to a seat."""
