"""Live views in the terminal, of runs, trainings, studies, sweeps and chats."""
