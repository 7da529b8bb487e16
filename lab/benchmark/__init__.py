"""What `lab.bench` measures: the engine against transformers, and several engine actors at once."""
