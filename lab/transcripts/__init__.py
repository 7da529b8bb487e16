"""Transcripts from elsewhere: reading, judging, and comparison with labels."""
