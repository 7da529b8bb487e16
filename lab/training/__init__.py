"""Trainings carried out: rollouts, rewards, steps, checkpoints, evaluation."""
