"""Reports for people: tables, plots, Markdown and HTML pages of what a run's folder holds."""
