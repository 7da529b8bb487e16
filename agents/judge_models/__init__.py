"""Models that judges use: an embedder, entailment heads, likelihoods under a card, and a choice among answers."""
