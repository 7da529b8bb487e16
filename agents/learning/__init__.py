"""Learners: views of dialogues in, better adapters out. Losses are pure functions; what plays and judges is wired in by
the lab.
"""
