"""One file a finding: `Stimuli`, the form of its stimuli file, and `study`, which asks and says what came of it (see
`metrics.studies.protocol`).
"""
