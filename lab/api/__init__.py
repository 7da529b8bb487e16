"""The Python interface of the lab: what `import lab` offers to scripts and notebooks."""
