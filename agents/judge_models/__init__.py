"""Models that judges read with: the embedder, entailment heads, likelihoods under a card, a choice among answers."""
