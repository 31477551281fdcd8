"""Text Generation Inference through ``huggingface_hub``: prompts as text, adapters by ``adapter_id``.

Protocol: https://huggingface.co/docs/text-generation-inference/reference/api_reference and
https://huggingface.co/docs/text-generation-inference/conceptual/lora

TGI answers with the base model when it does not know an ``adapter_id``, without a word
(https://github.com/huggingface/text-generation-inference/issues/2505), and lists its adapters nowhere. So each one is
tried once: an adapter that continues a text exactly as the base does is not there.
"""

import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import httpx2

from sawyer.stage_version import Version
from serve.engine import TokenLogprob
from serve.errors import ApiError
from serve.remote.prompts import Frame, Prompts
from serve.remote.protocol import Ask, Look, Piece, RemoteFault, faults, natural_seed, refused, remote_name, said_by

if TYPE_CHECKING:
    from huggingface_hub import TextGenerationStreamOutput


_PROBE = "Hello! My name is"
_AGAIN = 60.0  # seconds until an adapter that was not there is looked for again
_SAME = 1e-3  # log-probabilities of one model differ by less, whatever else is in the batch


class Tgi:
    """A TGI server.

    Args:
        url: of the server.
        token: sent as bearer token; None: none.
        prompts: puts prompts into words, and names tokens.
    """

    kind = "TGI"

    def __init__(self, url: str, token: str | None, prompts: Prompts) -> None:
        self.url = url
        # Never left out: huggingface_hub would send the user's own token for the hub to whatever the address is.
        self.headers = {"authorization": f"Bearer {token}" if token else ""}
        self._prompts, self._describe = prompts, prompts.describe
        self._frame: Frame | None = None  # what its tokenizer puts around a text, which no config says for certain
        self._stops = 4  # --max-stop-sequences when nothing else is said
        self._there: set[str] = set()
        self._missing: dict[str, float] = {}  # name: when it was not there

    def look(self, http: httpx2.Client, wanted: Sequence[Version], others: Sequence[Version]) -> Look:
        try:
            with faults(self.kind):
                if (health := http.get(f"{self.url}/health", headers=self.headers)).status_code != 200:
                    raise refused(self.kind, health.status_code, said_by(health))
                answer = http.get(f"{self.url}/info", headers=self.headers)
                if answer.status_code != 200:
                    raise refused(self.kind, answer.status_code, said_by(answer))
                info = answer.json()
                self._stops = int(info.get("max_stop_sequences", self._stops))
                context = info.get("max_total_tokens")
                if self._frame is None:
                    answer = http.post(f"{self.url}/tokenize", json={"inputs": _PROBE}, headers=self.headers)
                    if answer.status_code == 200:  # older ones cannot say
                        self._frame = self._prompts.frame([token["id"] for token in answer.json()])
        except RemoteFault:
            self._there.clear()  # it may come back with other adapters
            self._missing.clear()
            self._frame = None
            raise
        names = {remote_name(version.ref): version.ref for version in wanted}
        for name in names:  # it may have been started anew between two looks
            if time.monotonic() > self._missing.get(name, 0.0) + _AGAIN:
                self._missing.pop(name, None)
        self._try_adapters(http, [*names, *(remote_name(version.ref) for version in others)])
        notes = [
            f"{ref} is not there: {name} answers as the base does"
            for name, ref in names.items()
            if name in self._missing
        ]
        return Look(frozenset(self._there), None, context, tuple(notes))

    def _try_adapters(self, http: httpx2.Client, names: Sequence[str]) -> None:
        """Sort the adapters that were not tried yet into those that are there and those that are missing."""
        new = [name for name in names if name not in self._there and name not in self._missing]
        if not new:
            return
        base = self._continuation(http, None)
        for name in new:
            own = self._continuation(http, name)
            same = len(own) == len(base) and all(
                token == other and abs(value - number) < _SAME
                for (token, value), (other, number) in zip(own, base, strict=True)
            )
            if same:
                self._missing[name] = time.monotonic()
            else:
                self._there.add(name)

    def _continuation(self, http: httpx2.Client, name: str | None) -> list[tuple[int, float]]:
        """(id, log-probability) of the likeliest tokens after the probe."""
        parameters: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "details": True}
        if name:
            parameters["adapter_id"] = name
        with faults(self.kind):
            answer = http.post(
                f"{self.url}/generate", json={"inputs": _PROBE, "parameters": parameters}, headers=self.headers
            )
            if answer.status_code != 200:
                raise refused(self.kind, answer.status_code, said_by(answer), name)
            return [(token["id"], token["logprob"]) for token in answer.json()["details"]["tokens"]]

    async def stream(self, http: httpx2.AsyncClient, ask: Ask) -> AsyncIterator[Piece]:
        from huggingface_hub.errors import HfHubHTTPError, TextGenerationError

        try:
            text = self._prompts.wording(ask.ids, self._frame)
        except ApiError as error:
            raise RemoteFault(error) from error
        with faults(self.kind):
            try:
                async with _client(http, self.url, self.headers) as client:
                    tokens = 0
                    async for output in await client.text_generation(text, **self._parameters(ask)):
                        tokens += 1
                        yield self._piece(output, tokens, ask.top_logprobs)
            except TextGenerationError as error:  # an error of TGI's own, also in the middle of a stream
                raise refused(self.kind, _status(error), str(error), ask.name) from error
            except HfHubHTTPError as error:
                raise refused(self.kind, error.response.status_code, said_by(error.response), ask.name) from error

    def _parameters(self, ask: Ask) -> dict[str, Any]:
        sampling = ask.sampling
        parameters: dict[str, Any] = {
            "stream": True,
            "details": True,
            "return_full_text": False,
            "adapter_id": ask.name,
            "max_new_tokens": sampling.max_tokens,
            "do_sample": sampling.temperature > 0,
            # More would be refused. The others end the reply here, and the stream with it.
            "stop": list(sampling.stop[: self._stops]),
            "top_n_tokens": ask.top_logprobs or None,
        }
        if sampling.temperature > 0:
            parameters |= {"temperature": sampling.temperature, "seed": natural_seed(sampling.seed)}
            if sampling.top_p < 1:  # 1 is refused: TGI wants a value between 0 and 1
                parameters["top_p"] = sampling.top_p
        return parameters

    def _piece(self, output: "TextGenerationStreamOutput", tokens: int, top_logprobs: int | None) -> Piece:
        token, finish = output.token, output.details.finish_reason if output.details else None
        logprobs: tuple[TokenLogprob, ...] = ()
        if top_logprobs is not None and not token.special:
            top = [(*self._describe(other.id), other.logprob) for other in output.top_tokens or []]
            logprobs = (TokenLogprob(*self._describe(token.id), token.logprob, top[:top_logprobs]),)
        if output.details:
            tokens = output.details.generated_tokens
        reason = None if finish is None else "length" if finish == "length" else "stop"
        return Piece("" if token.special else token.text, tokens, logprobs, reason)  # type: ignore[arg-type]


def _client(http: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> Any:
    """huggingface_hub's client over our connections.

    Its own refuse every address while HF_HUB_OFFLINE is set, which is how machines without a way to the hub are run,
    and it would open a new one for each request. Leaving the client ends its stream and nothing else.
    """
    from huggingface_hub import AsyncInferenceClient

    class Client(AsyncInferenceClient):
        async def _get_async_client(self) -> httpx2.AsyncClient:
            return http

    return Client(model=url, headers=dict(headers), timeout=http.timeout)  # type: ignore[arg-type]


def _status(error: Exception) -> int:
    """The HTTP status of TGI's ``error_type``, which huggingface_hub turns into an exception."""
    from huggingface_hub.errors import GenerationError, OverloadedError, ValidationError

    statuses: dict[type, int] = {GenerationError: 424, OverloadedError: 429, ValidationError: 422}
    return statuses.get(type(error), 500)
