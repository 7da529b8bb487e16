from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def one_thread():
    """Small models are faster on one thread, and far faster where other work is going on."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def embedded(one_thread):
    """The embedded model in float32 on the CPU, loaded once."""
    from agents.engine import LocalEngine
    from agents.models import EMBEDDED, load

    return LocalEngine(load(EMBEDDED, "float32", "cpu"))
