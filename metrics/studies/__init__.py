"""One file per study: `Stimuli`, the schema of its stimuli file, and `study`, which asks and returns a finding.

See `metrics.studies.protocol`, and `metrics.studies.verdict` for what is made of a finding.
"""

from __future__ import annotations

# files that are no study: several use them
SHARED = ("dialogue_arms", "invented_facts", "prompt_search", "protocol", "verdict")
