"""What `lab.bench` measures: the engine against transformers, and engine actors side by side."""
