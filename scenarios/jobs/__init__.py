"""The keys of the files that start more than one run: trainings, studies and sweeps."""
