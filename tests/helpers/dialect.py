"""vLLM's dialect of the OpenAI protocol on loopback, spoken by a `LocalEngine`."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

from commands import listening

from agents.engine.protocol import Sampling

BLOCK = 64  # what prompts share is read once, in such steps
BASE, LORA = "embedded", "tuned"


class Dialect(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        about = {"object": "model", "created": 0, "owned_by": "tests"}
        self.answer(
            {
                "object": "list",
                "data": [
                    {"id": BASE, "root": BASE, "max_model_len": 2048, **about},
                    {"id": LORA, "root": "/elsewhere", "parent": BASE, "max_model_len": None, **about},
                ],
            }
        )

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(body)
        with self.server.turn:
            if "chat" in self.path:
                message = {"role": "assistant", "content": "I am a baker."}
                self.answer(
                    {
                        "id": "x",
                        "object": "chat.completion",
                        "created": 0,
                        "model": BASE,
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    }
                )
            elif self.server.down(body["prompt"]):
                self.answer({"error": {"message": "planted"}}, 400)
            else:
                self.answer(self.server.spoilt(self.complete(body)))

    def complete(self, body: dict) -> dict:
        engine, without = self.server.engine, self.server.without
        prompt = body["prompt"] if isinstance(body["prompt"], list) else engine.encode([body["prompt"]])[0]
        cut = max((len(prompt) - 1) // BLOCK * BLOCK, 1)
        head, known = self.head(tuple(prompt[:cut]))
        given = None
        if "prompt_logprobs" in body and "prompt_logprobs" not in without:
            known = [*known, *engine.score([head], [[((), prompt[cut:])]])[0][0]]
            given = [
                None,
                *({str(token): {"logprob": p, "rank": 1}} for token, p in zip(prompt[1:], known, strict=True)),
            ]
        [branch] = engine.fork([head])
        engine.extend([branch], [prompt[cut:]])
        [said] = engine.generate(
            [branch],
            [
                Sampling(
                    body.get("seed", 0),
                    body["max_tokens"],
                    body["temperature"],
                    body.get("top_k", 0),
                    body.get("top_p", 1.0),
                    min_tokens=body.get("min_tokens", 0),
                )
            ],
        )
        engine.drop([branch])
        choice = {
            "index": 0,
            "text": engine.decode([said.token_ids])[0],
            "finish_reason": said.stopped,
            "prompt_logprobs": given,
            "logprobs": {"token_logprobs": [0.0] * len(said.logprobs) if "raw_logprobs" in without else said.logprobs},
        }
        if body.get("return_token_ids") and "return_token_ids" not in without:
            choice |= {
                "token_ids": said.token_ids,
                "prompt_token_ids": prompt[::-1] if "tokenizer" in without else prompt,
            }
        return {
            "id": "x",
            "object": "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": len(prompt),
                "completion_tokens": len(said.token_ids),
                "total_tokens": len(prompt) + len(said.token_ids),
                "prompt_tokens_details": {"cached_tokens": 1},
            },
        }

    def head(self, ids: tuple[int, ...]) -> tuple[int, list[float]]:
        """A branch that holds a beginning, and log p of its tokens but the first; each beginning is read once."""
        engine, read = self.server.engine, self.server.read
        if ids not in read and len(ids) == 1:
            read[ids] = engine.open([ids])[0], []
        elif ids not in read:
            shorter, known = self.head(ids[: max(len(ids) - BLOCK, 1)])
            rest = ids[len(known) + 1 :]
            [branch] = engine.fork([shorter])
            engine.extend([branch], [rest])
            read[ids] = branch, [*known, *engine.score([shorter], [[((), rest)]])[0][0]]
        return read[ids]

    def answer(self, body: dict, status: int = 200) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Quiet."""


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def __init__(self, engine, without: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), Dialect)
        self.engine, self.without = engine, without
        self.down: Callable[[object], bool] = lambda prompt: False  # for which prompts it fails
        self.spoilt: Callable[[dict], dict] = lambda answer: answer  # what becomes of its answers
        self.asked: list[dict] = []
        self.read: dict = {}
        self.turn = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


def serving(engine, *without: str) -> AbstractContextManager[Server]:
    """A server that lacks what `without` names, by vLLM's words for it."""
    return listening(Server(engine, without))
