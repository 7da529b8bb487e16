"""Learners: views of dialogues in, trained adapters out. Losses are pure functions; the lab plays and judges."""
