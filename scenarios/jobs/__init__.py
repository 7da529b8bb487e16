"""The keys of the files that ask for more than one run: trainings, studies, sweeps."""
