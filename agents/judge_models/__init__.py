"""Models of judges: an embedder, entailment heads, likelihoods under a card, and a choice among answers."""
