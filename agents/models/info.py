"""The description of an engine's model: name, sizes, device, memory and chat template."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.models.chat_template import ChatFormat


@dataclass(frozen=True)
class EngineInfo:
    """The description of an engine's model."""

    model: str
    device: str  # "cpu", "cuda:0", ..., or a server's address
    dtype: str  # "bfloat16", "float32", "float16", or "served"
    context: int  # most tokens a branch may hold
    parameters: int  # 0 where a server does not say
    format: ChatFormat
    token_bytes: int = 0  # keys and values of one token of one branch; 0 where a server keeps them
    # room for them, once the model is there: a reading of that moment
    free_bytes: int = field(default=0, compare=False)
    place: str = ""  # whose room: the same for engines that share a memory
