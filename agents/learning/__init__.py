"""Learners: from views of dialogues to trained adapters. Losses are pure functions; the lab plays and judges."""
