"""Transcripts from elsewhere: read, judged, held against labels."""
