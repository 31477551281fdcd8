"""Broken requests of every kind, as the bytes that go over the wire. The same seed gives the same requests."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

HI = [{"role": "user", "content": "hi"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "sawyer-sft", "messages": HI, "max_tokens": 1, "n": 1, "seed": 1, "stop": ["."]},
    "/v1/completions": {"model": "sawyer-base", "prompt": "hi", "max_tokens": 1, "logprobs": 1, "top_p": 0.5},
    "/v1/compare": {"messages": HI, "max_tokens": 1, "temperature": 0.5, "stages": ["sft"], "blind": True},
    "/v1/feedback/votes": {"turn_id": "t", "choice": "rlf", "ranking": ["rlf"], "position": 0, "comment": "c"},
    "/v1/feedback/ratings": {"completion_id": "c", "up": True, "voter": "v"},
}
"""Routes with a body -> one that they would accept, as cheap as possible."""

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, "", "x", [], {}, [[]], [None], {"a": 1}, "\x00", "\ud800", "9" * 5000, 2**63, -(2**64),
    "sawyer-rlf@999999999999999999999", "../../etc/passwd", [0] * 2000, {"role": "user"}, [{"role": "user"}],
    ["\ud800"],
)  # fmt: skip
NUMBERS = ("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1" + "0" * 400, "-" + "9" * 5000, "0." + "0" * 500 + "1",
           "1e-999", "00", "+1", "0x10", "1_000", "9223372036854775808", "-0", "1E400", ".5", "5.")  # fmt: skip
TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "multipart/form-data; boundary=x",
         "application/xml", "application/json; charset=utf-16", "application/json; charset=nonsense", "json", "",
         "application/octet-stream", "*/*", "application/" + "j" * 3000)  # fmt: skip


def malformed(draw: random.Random, kind: str) -> bytes:
    """One request of a kind."""
    path = draw.choice(list(BODIES))
    return KINDS[kind](draw, path, json.loads(json.dumps(BODIES[path])))


def request(
    path: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    length: int | str | None = None,
) -> bytes:
    """HTTP/1.1 as bytes. ``length`` replaces the true Content-Length."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    given = {"Content-Type": "application/json", "Content-Length": len(body) if length is None else length}
    lines += [f"{name}: {value}" for name, value in {**given, **(headers or {})}.items()]
    return "\r\n".join(lines).encode("utf-8", "surrogatepass") + b"\r\n\r\n" + body


def _truncated(draw: random.Random, path: str, body: dict) -> bytes:
    text = json.dumps(body).encode()
    return request(path, text[: draw.randrange(len(text))])


def _wrong_type(draw: random.Random, path: str, body: dict) -> bytes:
    for key in draw.sample(sorted(body), draw.randint(1, 2)):
        body[key] = draw.choice(ODD)
    return request(path, json.dumps(body).encode())


def _missing_or_unknown(draw: random.Random, path: str, body: dict) -> bytes:
    key = draw.choice(sorted(body))
    value = body.pop(key)
    if draw.random() < 0.7:
        body[draw.choice((key.upper(), key + " ", "", "\x00", "__class__", "k" * 5000))] = value
    return request(path, json.dumps(body).encode())


def _number(draw: random.Random, path: str, body: dict) -> bytes:
    key = draw.choice(sorted(body))
    text = json.dumps(body | {key: "@"}).replace('"@"', draw.choice(NUMBERS))
    return request(path, text.encode())


def _bytes_in_text(draw: random.Random, path: str, body: dict) -> bytes:
    text = bytearray(json.dumps(body).encode())
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(text))
        text[place:place] = draw.choice((b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5", b"\x80", b"\x00", b"\x1b"))
    return request(path, bytes(text))


def _noise(draw: random.Random, path: str, body: dict) -> bytes:
    return request(path, draw.randbytes(draw.choice((0, 1, 3, 50, 3000))))


def _content_type(draw: random.Random, path: str, body: dict) -> bytes:
    return request(path, json.dumps(body).encode(), {"Content-Type": draw.choice(TYPES)})


def _deep(draw: random.Random, path: str, body: dict) -> bytes:
    depth, key = draw.choice((50, 900, 1100, 20_000, 100_000)), draw.choice(sorted(body))
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
    nest = opening * depth + "1" + (closing * depth if draw.random() < 0.5 else "")
    return request(path, json.dumps(body | {key: "@"}).replace('"@"', nest).encode())


def _route(draw: random.Random, path: str, body: dict) -> bytes:
    method = draw.choice(("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "BREW", "post", "X" * 200))
    tail = draw.choice(("", "/", "//", "/..", "/%2e%2e/x", "?" + "q=" * 500, "/%00", "/%ff", "#x", "/" + "y" * 5000))
    return request(path + tail, json.dumps(body).encode(), method=method)


def _header(draw: random.Random, path: str, body: dict) -> bytes:
    text = json.dumps(body).encode()
    odd = {
        "Authorization": draw.choice(("Bearer", "Bearer \ud800", "Basic x", "Bearer " + "k" * 20_000, "bearer\tx")),
        "X-Request-ID": draw.choice(("x" * 5000, "é", "a b", '"')),
        "Idempotency-Key": draw.choice(("k" * 5000, "é", " ", "\x7f")),
        "X-Forwarded-For": draw.choice(("::1", "x" * 3000, "1.2.3.4, " * 400, "\ud800")),
        "Accept": draw.choice(("nothing/at-all", "x" * 3000)),
        "Transfer-Encoding": draw.choice(("gzip", "chunked", "identity", "chunked, chunked")),
        "Expect": draw.choice(("100-continue", "200-ok")),
        "Content-Encoding": "gzip",
        "Host": draw.choice(("", "evil.example", "a b", "x" * 3000)),
        "Bad Name": "x",
        "Nul": "a\x00b",
        "Upgrade": "h2c",
    }
    name = draw.choice(sorted(odd))
    return request(path, text, {name: odd[name]})


def _length(draw: random.Random, path: str, body: dict) -> bytes:
    text = json.dumps(body).encode()
    lengths = (0, 1, len(text) - 1, len(text) + 50, -1, "x", "1, 1", 2**70, "", "0x10", 2_000_000)
    return request(path, text, length=draw.choice(lengths))


def _wire(draw: random.Random, path: str, body: dict) -> bytes:
    whole = request(path, json.dumps(body).encode())
    return draw.choice(
        (
            whole[: draw.randrange(1, whole.index(b"\r\n\r\n"))] + b"\r\n\r\n",
            whole.replace(b"HTTP/1.1", draw.choice((b"HTTP/9.9", b"HTTP/1.0", b"FTP/1.1", b""))),
            whole.replace(b"\r\n", b"\n"),
            whole.replace(b": ", b" "),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(40) + b"\r\n\r\n",
            draw.randbytes(200) + b"\r\n\r\n",
            b"\r\n" * 50 + whole,
            b"POST "
            + path.encode()
            + b" HTTP/1.1\r\nHost: localhost\r\n"
            + b"".join(b"H%d: x\r\n" % n for n in range(3000))
            + b"\r\n",
        )
    )


KINDS: dict[str, Callable[[random.Random, str, dict], bytes]] = {
    "truncated JSON": _truncated,
    "wrong types": _wrong_type,
    "missing and unknown keys": _missing_or_unknown,
    "odd numbers": _number,
    "invalid UTF-8": _bytes_in_text,
    "noise": _noise,
    "wrong content types": _content_type,
    "deep nesting": _deep,
    "wrong routes and methods": _route,
    "odd headers": _header,
    "wrong lengths": _length,
    "broken HTTP": _wire,
}
