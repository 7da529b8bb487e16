"""The Python face of the lab: what `import lab` offers to scripts and notebooks."""
