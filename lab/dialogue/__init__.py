"""Dialogues played: the loop, and how seats, judges and engines are set up for it."""
