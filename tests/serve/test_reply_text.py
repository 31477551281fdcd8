"""Text that grows token by token equals the whole text, and nothing shown is ever taken back."""

import random

import pytest
from transformers import AutoTokenizer

from sawyer.chat import ChatFormat
from serve.reply_text import ReplyText, TokenNames
from tests.train.makers import make_backbone

TEXTS = [
    "tea river",
    "  spaces first and last  \n",
    "naïve café — 日本語 😀 family 👩‍👩‍👧‍👦 end",
    "line\n\nline\r\n\ttab",
    "",
    "e\u0301 combining, ﬁ ligature, \u200b zero width",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(make_backbone(tmp_path_factory.mktemp("backbone")))


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def played(tokenizer, ids, stop=(), **options):
    reply = ReplyText(tokenizer, stop, **options)
    deltas = []
    for token in ids:
        deltas.append(reply.push(token))
        if reply.stopped:
            break
    deltas.append(reply.finish())
    assert "".join(deltas) == reply.text
    return deltas, reply


@pytest.mark.parametrize("text", TEXTS)
def test_deltas_joined_are_the_decoded_text(tokenizer, text):
    ids = ids_of(tokenizer, text)
    deltas, reply = played(tokenizer, ids)
    assert reply.text == ChatFormat(tokenizer).decode(ids) == text.strip()
    assert not any("\ufffd" in delta for delta in deltas)


def test_random_tokens_with_broken_characters_still_come_out_whole(tokenizer):
    draw = random.Random(0)
    for _ in range(300):
        ids = [draw.randrange(len(tokenizer)) for _ in range(draw.randrange(1, 30))]
        _, reply = played(tokenizer, ids)
        assert reply.text == ChatFormat(tokenizer).decode(ids)


@pytest.mark.parametrize("text", TEXTS)
def test_outer_white_space_can_be_kept(tokenizer, text):
    assert played(tokenizer, ids_of(tokenizer, text), strip=False)[1].text == text


def test_a_stop_text_across_tokens_is_never_shown(tokenizer):
    ids = ids_of(tokenizer, "Well yes.\nUser: and then")
    deltas, reply = played(tokenizer, ids, ["\nUser:"])
    assert reply.stopped and reply.text == "Well yes."
    assert not any("User" in delta for delta in deltas)


def test_what_only_looked_like_a_stop_text_is_shown_in_the_end(tokenizer):
    _, reply = played(tokenizer, ids_of(tokenizer, "Well yes.\nUse"), ["\nUser:"])
    assert not reply.stopped and reply.text == "Well yes.\nUse"


def test_the_earliest_stop_text_wins_and_one_at_the_start_leaves_nothing(tokenizer):
    assert played(tokenizer, ids_of(tokenizer, "one two three"), ["three", "two"])[1].text == "one"
    assert played(tokenizer, ids_of(tokenizer, "\nUser: x"), ["\nUser:"])[1].text == ""


def test_control_tokens_are_left_out(tokenizer):
    ids = [tokenizer.bos_token_id, *ids_of(tokenizer, "tea"), tokenizer.eos_token_id]
    assert played(tokenizer, ids)[1].text == "tea"


def test_the_bytes_of_tokens_joined_are_the_text(tokenizer):
    names = TokenNames(tokenizer)
    for text in TEXTS:
        data = b"".join(bytes(names.describe(token)[1]) for token in ids_of(tokenizer, text))
        assert data.decode() == text
