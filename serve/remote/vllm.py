"""vLLM: OpenAI's ``/v1/completions`` with token ids as the prompt and one model name for each adapter.

Protocol: https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html and
https://docs.vllm.ai/en/stable/features/lora.html
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import httpx2

from sawyer.stage_version import Version
from serve.engine import TokenLogprob
from serve.remote.protocol import Ask, Look, Piece, RemoteFault, faults, natural_seed, refused, remote_name, said_by

Describe = Callable[[int], tuple[str, list[int]]]

_LOADING = 180.0  # seconds that a server may take to load an adapter
_AGAIN = 60.0  # seconds until an adapter that was refused is tried again


class Vllm:
    """A vLLM server.

    Args:
        url: of the server, without ``/v1``.
        token: sent as bearer token; None: none.
        describe: text and bytes of a token id, for log-probabilities.
        model: name of its base model; None: the first that it lists without a parent.
    """

    kind = "vLLM"

    def __init__(self, url: str, token: str | None, describe: Describe, model: str | None = None) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._describe, self._model, self._base = describe, model, model
        self._refused: dict[str, tuple[float, str]] = {}  # name: when, and why

    def look(self, http: httpx2.Client, wanted: Sequence[Version], others: Sequence[Version]) -> Look:
        with faults(self.kind):
            if (health := http.get(f"{self.url}/health", headers=self.headers)).status_code != 200:
                raise refused(self.kind, health.status_code, said_by(health))
            answer = http.get(f"{self.url}/v1/models", headers=self.headers)
            if answer.status_code != 200:
                raise refused(self.kind, answer.status_code, said_by(answer))
            cards = answer.json()["data"]
            bases = {card["id"]: card for card in cards if card.get("parent") is None}
            self._base = self._model or next(iter(bases), None)
            if self._base not in bases:
                raise refused(self.kind, 404, f"it has {', '.join(bases) or 'no model'}", self._model)
            context = bases[self._base].get("max_model_len")
            names = {card["id"] for card in cards} - set(bases)
        notes = []
        for version in wanted:
            name = remote_name(version.ref)
            if name not in names:
                if problem := self._load(http, name, version):
                    notes.append(f"{version.ref} could not be loaded there: {problem}")
                else:
                    names.add(name)
        return Look(frozenset(names), self._base, context, tuple(notes))

    def _load(self, http: httpx2.Client, name: str, version: Version) -> str | None:
        """Load an adapter there; the problem in words, or None. Needs VLLM_ALLOW_RUNTIME_LORA_UPDATING there."""
        when, problem = self._refused.get(name, (0.0, ""))
        if problem and time.monotonic() < when + _AGAIN:
            return problem
        body = {"lora_name": name, "lora_path": str(version.path.resolve())}
        try:
            with faults(self.kind):
                answer = http.post(
                    f"{self.url}/v1/load_lora_adapter", json=body, headers=self.headers, timeout=_LOADING
                )
                # Answered 400 when another SAWYER was faster; the next look finds it in the list.
                if answer.status_code == 404 and "lora" not in said_by(answer).lower():
                    problem = "it was started without VLLM_ALLOW_RUNTIME_LORA_UPDATING"
                elif answer.status_code != 200:
                    problem = str(refused(self.kind, answer.status_code, said_by(answer), name))
                else:
                    self._refused.pop(name, None)
                    return None
        except RemoteFault as fault:
            problem = str(fault)
        self._refused[name] = (time.monotonic(), problem)
        return problem

    async def stream(self, http: httpx2.AsyncClient, ask: Ask) -> AsyncIterator[Piece]:
        with faults(self.kind):
            request = http.stream("POST", f"{self.url}/v1/completions", json=self._body(ask), headers=self.headers)
            async with request as response:
                if response.status_code != 200:
                    await response.aread()
                    raise refused(self.kind, response.status_code, said_by(response), ask.name)
                tokens = 0
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data == "[DONE]":
                        return
                    if not data:
                        continue
                    chunk = json.loads(data)
                    if "error" in chunk:  # how a stream fails after its 200
                        error = chunk["error"]
                        code = error.get("code") if isinstance(error, dict) else None
                        said = str(error.get("message", error) if isinstance(error, dict) else error)
                        raise refused(self.kind, code if isinstance(code, int) else 500, said, ask.name)
                    if piece := self._piece(chunk, tokens, ask.top_logprobs or 0):
                        tokens = piece.tokens
                        yield piece

    def _body(self, ask: Ask) -> dict[str, Any]:
        sampling = ask.sampling
        body: dict[str, Any] = {
            "model": ask.name or self._base,
            "prompt": list(ask.ids),
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # Said, because the checkpoint's generation_config.json is what vLLM takes otherwise.
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "seed": natural_seed(sampling.seed),
            "stop": list(sampling.stop),
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        if ask.top_logprobs is not None:
            body |= {"logprobs": ask.top_logprobs, "return_tokens_as_token_ids": True}
        return body

    def _piece(self, chunk: dict[str, Any], before: int, most: int) -> Piece | None:
        """One chunk of the stream; None for those without a choice (usage alone)."""
        if not chunk["choices"]:
            return None
        choice = chunk["choices"][0]
        usage = chunk.get("usage") or {}
        # Without running counts a chunk is a token, which is what vLLM sends unless it is told otherwise.
        tokens = usage.get("completion_tokens", before + 1)
        finish = choice.get("finish_reason")
        if finish not in (None, "stop", "length"):  # "abort", "error"
            raise refused(self.kind, 500, f"it ended the reply with {finish!r}")
        return Piece(choice["text"], tokens, self._logprobs(choice.get("logprobs"), most), finish)

    def _logprobs(self, given: dict[str, Any] | None, most: int) -> tuple[TokenLogprob, ...]:
        """OpenAI's older form: parallel lists; tokens are ``token_id:17``, as we asked for.

        The chosen token comes with the ``most`` likeliest ones, whether it is one of them or not.
        """
        if not given:
            return ()
        told = []
        alternatives = given.get("top_logprobs") or [None] * len(given["tokens"])
        for token, value, tops in zip(given["tokens"], given["token_logprobs"], alternatives, strict=True):
            if value is None:
                continue
            top = [(*self._named(other), number) for other, number in (tops or {}).items()]
            told.append(TokenLogprob(*self._named(token), value, sorted(top, key=lambda each: -each[2])[:most]))
        return tuple(told)

    def _named(self, token: str) -> tuple[str, list[int]]:
        if token.startswith("token_id:"):
            return self._describe(int(token.removeprefix("token_id:")))
        return token, list(token.encode())
