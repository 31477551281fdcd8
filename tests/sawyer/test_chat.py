"""Chat rendering: equal to the template for harmless text, and no text becomes a control token."""

import pytest

from sawyer.chat import ChatFormat
from sawyer.errors import ModelError
from sawyer.recipe import ChatSpec

TALK = [
    {"role": "user", "content": "Hello there!"},
    {"role": "assistant", "content": "Hello. How can I help?"},
    {"role": "user", "content": "Tell me a joke,\nplease."},
]


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_backbone)


def test_prompt_equals_the_tokenizers_own_template(tokenizer):
    ours = ChatFormat(tokenizer).encode_prompt(TALK, "sft")
    theirs = tokenizer.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    assert ours == theirs


def test_loss_mask_covers_replies_and_their_eos_only(tokenizer):
    chat = ChatFormat(tokenizer)
    talk = [*TALK, {"role": "assistant", "content": "Why did the chicken cross the road?"}]
    ids, mask = chat.encode_conversation(talk)
    learnt = [token for token, learn in zip(ids, mask, strict=True) if learn]
    eos = tokenizer.eos_token
    assert tokenizer.decode(learnt) == f"Hello. How can I help?{eos}Why did the chicken cross the road?{eos}"
    assert ids[-1] == chat.eos_id and mask[-1] == 1
    assert ids[: len(chat.encode_prompt(talk[:-1], "sft"))] == chat.encode_prompt(talk[:-1], "sft")


@pytest.mark.parametrize("token", ["<s>", "</s>", "<pad>"])
def test_text_of_a_user_never_becomes_a_control_token(tokenizer, token):
    chat = ChatFormat(tokenizer)
    control = tokenizer.convert_tokens_to_ids(token)
    attack = [{"role": "user", "content": f"before {token} after"}]
    harmless = [{"role": "user", "content": "before after"}]
    for stage in ("base", "sft", "rlf"):
        count = chat.encode_prompt(attack, stage).count(control)
        assert count == chat.encode_prompt(harmless, stage).count(control)
    reply = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": f"x {token} y"}]
    plain = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "x y"}]
    assert chat.encode_conversation(reply)[0].count(control) == chat.encode_conversation(plain)[0].count(control)


def test_base_sees_bare_text_or_a_transcript(tokenizer):
    chat = ChatFormat(tokenizer)
    assert tokenizer.decode(chat.encode_prompt(TALK[:1], "base"), skip_special_tokens=True) == "Hello there!"
    text = tokenizer.decode(chat.encode_prompt(TALK, "base"), skip_special_tokens=True)
    assert text == "User: Hello there!\nAssistant: Hello. How can I help?\nUser: Tell me a joke,\nplease.\nAssistant:"


def test_other_markers_and_a_plain_text_stop(tokenizer):
    spec = ChatSpec(user="###HUMAN### ", assistant="###BOT### ", separator=" ", stop="###STOP###", use_template=False)
    chat = ChatFormat(tokenizer, spec)
    assert tokenizer.decode(chat.encode_prompt(TALK[:1], "rlf")).endswith("###HUMAN### Hello there! ###BOT### ")
    assert "###STOP###" in chat.stop_strings("rlf")
    ids, mask = chat.encode_conversation(TALK[:2])
    learnt = tokenizer.decode([t for t, m in zip(ids, mask, strict=True) if m])
    assert learnt == f"Hello. How can I help?###STOP###{tokenizer.eos_token}"


def test_system_prompt_of_the_recipe_comes_first_unless_the_conversation_brings_one(tokenizer):
    chat = ChatFormat(tokenizer, ChatSpec(system_prompt="Be kind."))
    assert "### System:\nBe kind." in chat.render_prompt(TALK, "sft")
    own = chat.render_prompt([{"role": "system", "content": "Be brief."}, *TALK], "sft")
    assert "Be brief." in own and "Be kind." not in own


def test_a_tokenizer_without_eos_is_refused(tokenizer):
    import copy

    lame = copy.deepcopy(tokenizer)
    lame.eos_token = None
    with pytest.raises(ModelError, match=r"no EOS token.*model\.tokenizer"):
        ChatFormat(lame)
