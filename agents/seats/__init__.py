"""Who speaks in a dialogue: a model, a server's model, a script, or a person."""
