"""Keys: shown once, kept as digests, each with a role, taken back at once."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from sawyer.errors import SawyerError, UsageError
from serve.keys import PREFIX, KeyFile, Keyring, make_key


def test_a_key_is_found_by_its_text_alone_and_the_text_is_not_kept(tmp_path):
    file = KeyFile(tmp_path)
    key, text = file.add("voter", "Ada")
    assert text.startswith(f"{PREFIX}{key.id}-") and len(text) > 50
    assert Keyring(file).find(text) == key and (key.role, key.label, key.page) == ("voter", "Ada", False)
    assert text.rpartition("-")[2] not in file.path.read_text() and len(key.digest) == 64
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "wrong", ["", "sk-sawyer-", "none", "sk-sawyer-{id}-", "sk-sawyer-{id}-x", "{text}x", "é\ud800"]
)
def test_anything_else_is_no_key(tmp_path, wrong):
    file = KeyFile(tmp_path)
    key, text = file.add("admin")
    assert Keyring(file).find(wrong.format(id=key.id, text=text)) is None
    assert Keyring().find(text) is None


def test_roles_hold_what_the_smaller_ones_hold():
    reader, voter, admin = (make_key(role)[0] for role in ("reader", "voter", "admin"))
    assert [key.allows("voter") for key in (reader, voter, admin)] == [False, True, True]
    assert admin.allows("admin") and not voter.allows("admin") and reader.allows("reader")


def test_a_running_server_sees_new_and_revoked_keys(tmp_path):
    file, ring = KeyFile(tmp_path), Keyring(KeyFile(tmp_path))
    key, text = file.add("reader")
    assert ring.find(text) == key
    _, second = file.add("reader")
    assert file.revoke(key.id) == key
    assert ring.find(text) is None and ring.find(second)


def test_a_file_that_is_damaged_while_serving_changes_nothing(tmp_path, caplog):
    file, ring = KeyFile(tmp_path), Keyring(KeyFile(tmp_path))
    key, text = file.add("reader")
    assert ring.find(text)
    file.path.write_text("{")
    assert ring.find(text) == key and "keys of before" in caplog.text
    with pytest.raises(SawyerError, match="Restore the file"):
        file.add("reader")


def test_no_file_while_serving_means_no_keys_but_its_own(tmp_path):
    file, ring = KeyFile(tmp_path), Keyring(KeyFile(tmp_path))
    _, text = file.add("reader")
    own = ring.issue("voter", "page", page=True)
    assert ring.find(text) and ring.find(own).page
    file.path.unlink()
    assert ring.find(text) is None and ring.find(own)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"keys": 1}', '{"keys": [{"id": "x"}]}',
                '{"keys": [{"id": "x", "role": "king", "digest": "y"}]}']
)  # fmt: skip
def test_a_damaged_file_is_told(tmp_path, content):
    KeyFile(tmp_path).path.write_text(content)
    with pytest.raises(SawyerError, match=r"keys.json cannot be read"):
        KeyFile(tmp_path).load()


def test_wrong_roles_and_ids_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="reader, voter, admin"):
        KeyFile(tmp_path).add("king")
    key, _ = KeyFile(tmp_path).add("reader")
    with pytest.raises(UsageError, match=key.id):
        KeyFile(tmp_path).revoke("00000000")


def test_keys_made_at_once_are_all_kept(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = [key for key, _ in pool.map(lambda n: KeyFile(tmp_path).add("reader", str(n)), range(24))]
    assert {key.id for key in KeyFile(tmp_path).load()} == {key.id for key in made}
    assert len(json.loads(KeyFile(tmp_path).path.read_text())["keys"]) == 24
