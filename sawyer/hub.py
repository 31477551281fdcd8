"""What to do when the hub does not give what was asked: told from the kind of error, not from its wording.

Kinds: https://huggingface.co/docs/huggingface_hub/package_reference/utilities#errors
"""

import errno
from collections.abc import Iterator
from typing import Literal

Kind = Literal["model", "dataset"]


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: transformers and datasets wrap the hub's own."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def error_kinds() -> tuple[type[Exception], ...]:
    """The exceptions of the hub's client and of its connection, which are not all OSErrors."""
    import httpx
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    return (httpx.HTTPError, HfHubHTTPError, OfflineModeIsEnabled)


def cure(name: str, error: BaseException, *, key: str, kind: Kind = "model") -> str | None:
    """What to do about ``error`` at the hub's repository ``name``, in sentences; None if it is no matter of the hub.

    Args:
        key: the recipe's key that named the repository.
    """
    import httpx
    from huggingface_hub import errors

    revision = f"{key.rpartition('.')[0]}.revision".lstrip(".")
    chain = list(causes(error))

    def any_of(*kinds: type[BaseException]) -> BaseException | None:
        return next((one for one in chain if isinstance(one, kinds)), None)

    if any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in chain):
        return f"The disk of the cache, {_cache()}, is full: free some space or name another folder in HF_HOME. {_KEPT}"
    said = _said_by_datasets(chain)
    if any_of(errors.GatedRepoError) or "gated" in said:
        return _gated(name, kind)
    if any_of(errors.RevisionNotFoundError) or said.startswith("revision"):
        return f"It has no such revision: correct {revision}, a commit, tag or branch listed on {page(name, kind)}."
    if any_of(errors.RepositoryNotFoundError) or said:
        refused = "invalid" in " ".join(str(one).lower() for one in chain)
        return _refused() if refused else (
            f"There is no such {kind} on the hub, or it is private. Check the spelling in {key} ({page(name, kind)}); "
            f"for a private one, {_token_hint()}"
        )  # fmt: skip
    answered = any_of(errors.HfHubHTTPError)
    status = answered.response.status_code if isinstance(answered, errors.HfHubHTTPError) else None
    if status in (401, 403):
        return _refused()
    if _offline() and any_of(OSError):  # OfflineModeIsEnabled and LocalEntryNotFoundError among them
        return (
            f"HF_HUB_OFFLINE is set and {_cache()} does not hold it. On a machine with a network: "
            f"`{_fetch(name, kind)}`; then copy the cache here, or give the path of a folder in {key}."
        )
    if status == 429 or (status or 0) >= 500:
        return f"The hub answered {status}: try again later. {_KEPT}"
    broken = any_of(httpx.TransportError)
    if any("consistency check" in str(one).lower() for one in chain) or (
        broken and not isinstance(broken, httpx.ConnectError | httpx.ConnectTimeout)
    ):
        return f"The download was interrupted. {_KEPT}"
    if broken or any_of(errors.LocalEntryNotFoundError):
        return (
            f"The hub could not be reached, and {_cache()} does not hold it. Check the network and try again, or give "
            f"the path of a folder in {key}. {_KEPT}"
        )
    return None


_KEPT = "What was downloaded so far is kept: the same command goes on from there."


def _said_by_datasets(chain: list[BaseException]) -> str:
    """What datasets says of a data set that it did not find, in lower case: it raises that without the hub's error."""
    return next((str(one).lower() for one in chain if type(one).__name__ == "DatasetNotFoundError"), "")


def page(name: str, kind: Kind = "model") -> str:
    """The repository's page."""
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'dataset' else ''}{name}"


def _gated(name: str, kind: Kind) -> str:
    from huggingface_hub import get_token

    first = f"It is gated: open {page(name, kind)} in a browser, log in, and accept its terms there"
    if get_token() is None:
        return f"{first}. Then {_token_hint()}"
    return (
        f"{first}, with the account that your token belongs to; some owners confirm by hand, which takes hours or "
        "days. A fine-grained token also needs the permission to read public gated repositories."
    )


def _token_hint() -> str:
    from huggingface_hub import get_token

    if get_token() is not None:
        return "use a token whose account may read it: now HF_TOKEN, or that of `hf auth login`, is one that may not."
    return (
        'make a token of type "read" in the settings of your account (Access Tokens), and set HF_TOKEN to it, or give '
        "it to `hf auth login`. No token is set now."
    )


def _refused() -> str:
    return (
        "The hub refuses the token in HF_TOKEN (or that of `hf auth login`): it is wrong, has expired, or may not do "
        "this. Make a new one in the settings of your account, or unset it where none is needed."
    )


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _cache() -> str:
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def _fetch(name: str, kind: Kind) -> str:
    return f"hf download {name}" + (" --repo-type dataset" if kind == "dataset" else "")
