"""Models: loading and description, chat templates, adapters, attention and CPU kernels."""
