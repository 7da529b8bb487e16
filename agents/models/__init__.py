"""Models loaded and described: weights, chat templates, adapters, attention and CPU kernels."""
