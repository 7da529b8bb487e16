"""Which address an endpoint has, and which key it gets."""

from __future__ import annotations

import pytest

from scenarios.endpoints import PROVIDERS, expected_key, key_of, url_of
from scenarios.fields import _endpoint
from scenarios.messages import hidden

KEYS = {"OPENAI_API_KEY": "openai-key", "ANTHROPIC_API_KEY": "anthropic-key", "MY_PAT": "a-key-of-mine"}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    for name in ("OPENAI_BASE_URL", *(provider.key for provider in PROVIDERS.values() if provider.key)):
        monkeypatch.delenv(name, raising=False)
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


@pytest.mark.parametrize(
    ("endpoint", "key"),
    [
        ("openai", "openai-key"),
        ("anthropic", "anthropic-key"),
        ("ollama", None),
        ("https://api.openai.com/v1", "openai-key"),
        ("https://api.anthropic.com/v1", "anthropic-key"),
        ("http://127.0.0.1:8000/v1", "openai-key"),
        ("http://localhost:8000/v1", "openai-key"),
        ("http://[::1]:8000/v1", "openai-key"),
        # nowhere else, whatever it is called
        ("http://api.openai.com/v1", None),
        ("https://api.openai.com:444/v1", None),
        ("https://api.openai.com.example.org/v1", None),
        ("https://example.org/api.openai.com/v1", None),
        ("http://localhost.example.org/v1", None),
        ("http://127.0.0.1.example.org/v1", None),
        ("http://10.0.0.7:8000/v1", None),
        ("http://0.0.0.0:8000/v1", None),
    ],
)
def test_a_key_goes_to_its_own_server_alone(endpoint, key):
    assert key_of(_endpoint(endpoint)) == key
    assert key_of(endpoint, "MY_PAT") == "a-key-of-mine", "or where the scenario names it"
    assert "a-key-of-mine" not in hidden("Bearer a-key-of-mine")


def test_a_provider_has_its_address_and_openai_that_of_its_variable(monkeypatch):
    assert url_of("openrouter") == "https://openrouter.ai/api/v1"
    assert url_of("http://host/v1") == "http://host/v1" and url_of("openai") == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert url_of("openai") == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("endpoint", "variable", "sentence"),
    [
        ("groq", None, "endpoint groq needs a key, and GROQ_API_KEY is not set; expected it there, or in a variable"),
        ("http://127.0.0.1:9/v1", "NO_SUCH", "api_key_env is NO_SUCH, which is not set; expected the key of endpoint"),
    ],
)
def test_a_key_that_is_missing_is_one_sentence(endpoint, variable, sentence):
    with pytest.raises(ValueError, match=sentence):
        key_of(endpoint, variable)


def test_a_server_that_wants_a_key_is_answered_with_the_key_of_the_scenario_that_names_one():
    assert expected_key("http://10.0.0.7/v1") == "expected api_key_env with the name of the variable that holds its key"
    assert expected_key("groq") == "expected its key in GROQ_API_KEY, or api_key_env with another variable's name"
    assert expected_key("groq", "MY_PAT") == "expected its key in MY_PAT"


@pytest.mark.parametrize("text", ["openai/gpt-oss-20b", "gpt-4", "localhost:8000", "ftp://host/v1"])
def test_what_is_no_address_and_no_name_is_refused_with_the_names(text):
    with pytest.raises(ValueError, match=r"http:// or https://, or one of openai, anthropic"):
        _endpoint(text)
