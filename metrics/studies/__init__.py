"""One file per study: `Stimuli`, the schema of its stimuli file, and `study`, which asks and returns a finding.

See `metrics.studies.protocol`.
"""

from __future__ import annotations

SHARED = ("dialogue_arms", "invented_facts", "prompt_search", "protocol")  # files that are no study: several use them
