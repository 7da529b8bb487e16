"""Stored results for other programs: frames in a notebook, exports in other formats."""
