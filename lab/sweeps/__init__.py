"""Sweeps carried out: trials here or on a Ray cluster."""
