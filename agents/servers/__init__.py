"""Models behind OpenAI-compatible servers: the client, and an engine made of what a server can do."""
