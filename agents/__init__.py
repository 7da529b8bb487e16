"""Who speaks: models, engines, seats, learners, and the Ray actors that host engines."""
