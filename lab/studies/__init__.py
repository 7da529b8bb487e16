"""Studies carried out: a model asked, arms played, adapters taught, verdicts given."""
