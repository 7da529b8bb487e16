"""Who speaks: models, engines, seats, and the Ray actors that host them."""
