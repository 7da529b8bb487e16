"""Stored results for other programs: frames for notebooks, exports in other formats."""
