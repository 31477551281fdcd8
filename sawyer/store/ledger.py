"""The ledger of files made of the feedback: whose words are in which rows, so that they can be taken out again.

Rows are known by a hash of their content, so a file may be sorted, shortened or renamed rows be added by hand, and the
right ones are still found. A file that is gone drops out of the ledger the next time it is looked for.
"""

import contextlib
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert, or_, select, update

from sawyer.errors import StoreError
from sawyer.store import files
from sawyer.store.ids import new_id
from sawyer.store.schema import derived_files, derived_rows
from sawyer.store.store import FeedbackStore

Origin = tuple[str, str]  # conversation id, voter ("": anonymous)
Change = Callable[[dict], dict | None]


def hash_row(row: dict) -> str:
    """What a row of a file is known by; long enough that two rows never share it by chance."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:24]


def note(store: FeedbackStore, path: Path, form: str, rows: Iterable[tuple[dict, dict]]) -> None:
    """Remember a file made of the feedback; an earlier entry of the same path is replaced.

    Args:
        rows: each row as it stands in the file, with the row of `derive` it was made of (for its origin).
    """
    found: dict[Origin, list[str]] = defaultdict(list)
    count = 0
    for written, source in rows:
        found[source["conversation_id"], source["voter"] or ""].append(hash_row(written))
        count += 1
    file = {"id": new_id(), "path": str(path.absolute()), "form": form, "rows": count, "created": time.time()}
    with store.database.write() as connection:
        _forget_file(connection, derived_files.c.path == file["path"])
        connection.execute(insert(derived_files), file)
        entries = [
            {"file_id": file["id"], "conversation_id": conversation, "voter": voter, "hashes": hashes}
            for (conversation, voter), hashes in found.items()
        ]
        if entries:
            connection.execute(insert(derived_rows), entries)


def rewrite(
    store: FeedbackStore, change: Change, *, voters: Sequence[str] = (), conversation_ids: Sequence[str] = ()
) -> list[Path]:
    """Rewrite every file that holds rows of these people or conversations; each is replaced whole or not at all.

    Args:
        change: a row -> what to put in its place; None takes it out.

    Returns:
        The files that were changed.

    Raises:
        StoreError: a file is there and cannot be read or written.
    """
    concerned = or_(derived_rows.c.voter.in_(voters), derived_rows.c.conversation_id.in_(conversation_ids))
    query = select(derived_rows, derived_files.c.path).join(derived_files).where(concerned)
    with store.database.read() as connection:
        entries = list(connection.execute(query).mappings())
    changed = []
    for path in sorted({entry["path"] for entry in entries}):
        mine = [entry for entry in entries if entry["path"] == path]
        hashes = {hash_ for entry in mine for hash_ in entry["hashes"]}
        replaced = _rewrite_file(Path(path), hashes, change)
        changed += [Path(path)] if replaced is not None else []
        with store.database.write() as connection:
            if replaced is None:
                _forget_file(connection, derived_files.c.path == path)
            else:
                _follow(connection, mine, replaced)
    return changed


def _rewrite_file(path: Path, hashes: set[str], change: Change) -> dict[str, str | None] | None:
    """Old hash -> new hash (None: taken out) of the rows concerned; None when the file is gone."""
    if not path.exists():
        return None
    replaced: dict[str, str | None] = {}

    def changed() -> Iterator[dict]:
        for row in files.read_rows(path):
            known = hash_row(row)
            if known in hashes:
                new = change(row)
                replaced[known] = None if new is None else hash_row(new)
                if new is None:
                    continue
                row = new
            yield row

    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        files.write_rows(changed(), temporary, path.suffix, like=path)
        os.replace(temporary, path)
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} was made of this feedback and cannot be rewritten: {error}. Mend it, or remove it, and repeat"
            " the command; the database was not changed."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return replaced


def _follow(connection: Connection, entries: list[Any], replaced: dict[str, str | None]) -> None:
    for entry in entries:
        left = [new for old in entry["hashes"] if (new := replaced.get(old)) is not None]
        mine = (derived_rows.c.file_id == entry["file_id"]) & (derived_rows.c.voter == entry["voter"])
        mine &= derived_rows.c.conversation_id == entry["conversation_id"]
        if left:
            connection.execute(update(derived_rows).where(mine).values(hashes=left))
        else:
            connection.execute(delete(derived_rows).where(mine))


def _forget_file(connection: Connection, where: Any) -> None:
    gone = select(derived_files.c.id).where(where)
    connection.execute(delete(derived_rows).where(derived_rows.c.file_id.in_(gone)))
    connection.execute(delete(derived_files).where(where))
