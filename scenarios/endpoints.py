"""Servers by name: their address, and the environment variable that holds their key by custom."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from scenarios.messages import hide_variable

OPENAI = "openai"  # at OPENAI_BASE_URL where that is set
OPENAI_KEY, OPENAI_URL = "OPENAI_API_KEY", "OPENAI_BASE_URL"


@dataclass(frozen=True)
class Provider:
    """A server that is known by name; `key` is the variable of its key, None where it needs none."""

    url: str
    key: str | None = None


PROVIDERS = {
    OPENAI: Provider("https://api.openai.com/v1", OPENAI_KEY),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),  # its OpenAI-compatible address
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together": Provider("https://api.together.xyz/v1", "TOGETHER_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks": Provider("https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
    "xai": Provider("https://api.x.ai/v1", "XAI_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1"),
    "vllm": Provider("http://127.0.0.1:8000/v1"),
    "llamacpp": Provider("http://127.0.0.1:8080/v1"),
    "lmstudio": Provider("http://127.0.0.1:1234/v1"),
}
_KEY_AT = {urlsplit(provider.url)[:2]: provider.key for provider in PROVIDERS.values() if provider.key}


def url_of(endpoint: str) -> str:
    """The base URL of an endpoint, which is a provider's name or a URL."""
    if endpoint == OPENAI and os.environ.get(OPENAI_URL):
        return os.environ[OPENAI_URL]
    return PROVIDERS[endpoint].url if endpoint in PROVIDERS else endpoint


def key_variable(endpoint: str, api_key_env: str | None = None) -> str | None:
    """The environment variable whose key is sent to an endpoint; None for none.

    It is `api_key_env`, else that of the provider by name or by the scheme and host of its URL, else OPENAI_API_KEY for
    a server on this machine. No other server gets a key.
    """
    if api_key_env:
        return api_key_env
    if endpoint in PROVIDERS:
        return PROVIDERS[endpoint].key
    parts = urlsplit(endpoint)
    return OPENAI_KEY if is_loopback(parts.hostname or "") else _KEY_AT.get((parts.scheme, parts.netloc.lower()))


def key_of(endpoint: str, api_key_env: str | None = None) -> str | None:
    """The key that is sent to an endpoint, or None.

    Raises ValueError where the variable that `api_key_env` or the provider's name calls for is not set.
    """
    name = key_variable(endpoint, api_key_env)
    if name is None:
        return None
    hide_variable(name)
    key = os.environ.get(name)
    if key:
        return key
    if api_key_env:
        raise ValueError(f"api_key_env is {name}, which is not set; expected the key of endpoint {endpoint} in it")
    if endpoint in PROVIDERS and not is_loopback(urlsplit(url_of(endpoint)).hostname or ""):
        raise ValueError(
            f"endpoint {endpoint} needs a key, and {name} is not set; expected it there, or in a variable that "
            "api_key_env names"
        )
    return None


def expected_key(endpoint: str, api_key_env: str | None = None) -> str:
    """What is expected after a server has refused access."""
    name = key_variable(endpoint, api_key_env)
    if name is None:
        return "expected api_key_env with the name of the variable that holds its key"
    return f"expected its key in {name}" + ("" if api_key_env else ", or api_key_env with another variable's name")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
