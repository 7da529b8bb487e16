"""Run folders on disk: the event log, frames, manifest, resume."""
