"""Reports for people: tables, plots, Markdown and HTML pages from the folder of a run."""
