"""Personas from other formats, and draft facts from their cards."""
