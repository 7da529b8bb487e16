"""Models behind OpenAI-compatible servers: the client, and an engine on a server."""
