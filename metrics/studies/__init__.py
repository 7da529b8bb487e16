"""One file per study: `Stimuli`, the schema of its stimuli file, and `study`, which asks and returns a finding.

See `metrics.studies.protocol`.
"""
