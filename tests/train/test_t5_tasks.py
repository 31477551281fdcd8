"""What a new T5 learns from: rows of random tokens, first sentences, spans; and the report's baseline."""

import random
from pathlib import Path
from typing import Any

import pytest

from sawyer.chat import ChatFormat
from sawyer.data import Prompt
from sawyer.errors import RecipeError, TrainingError
from sawyer.recipe import ChatSpec, T5Spec
from tests.train.test_t5_study import smaller
from train.sentences import first_sentences, sentences_of, whole_sentences
from train.t5 import judge
from train.t5_tasks import LONGEST, SHORTEST, copies, corrupt, encode, leads, plan
from train.tokenizer import train_tokenizer

TEXTS = [
    "The mill is old. It was sold in May! Who will buy the bridge?",
    "A fox ran over the bridge. Nobody saw it.",
    "Rain fell on the town all night long.",
]


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> ChatFormat:
    folder = tmp_path_factory.mktemp("tokenizer")
    spec = ChatSpec()
    tokenizer = train_tokenizer(
        [*TEXTS, "Summarize: this"], vocab_size=330, characters=10**6, chat=spec, context=64, folder=folder
    )
    return ChatFormat(tokenizer, spec, encoder_decoder=True)


def spec(**changes: Any) -> T5Spec:
    given = {
        "sources": [{"name": "a"}],
        "tasks": [{"name": "b"}],
        "batch_size": 8,
        "max_input": 60,
        "max_output": 24,
        "lead_template": "Summarize: {text}",
    }
    return T5Spec.model_validate(given | changes)


def test_sentences_are_split_and_only_written_out_ones_are_kept() -> None:
    assert sentences_of("It rained. Was it May?\nYes") == ["It rained.", "Was it May?", "Yes"]
    assert whole_sentences(["It rained all day. so it did today. Oh no! The end is near", "It rained all day."]) == [
        "It rained all day."
    ]
    assert first_sentences(["One is here. Two.", ""]) == ["One is here.", ""]


def test_random_rows_are_repeated_up_to_the_first_full_stop(chat: ChatFormat) -> None:
    (stop,) = chat.encode_text(".")
    head = chat.encode_text("Summarize:")
    rows = copies(spec(copy_steps=3), chat, seed=1)
    assert len(rows) == 24 and rows == copies(spec(copy_steps=3), chat, seed=1)
    for row in rows:
        body = row.source[len(head) :]
        length = body.index(stop) + 1
        assert row.source[: len(head)] == head and row.source[-1] == row.target[-1] == chat.eos_id
        assert row.target[:-1] == body[:length] and SHORTEST < length <= LONGEST + 1
        assert not set(body[:-1]) & set(chat.tokenizer.all_special_ids)
    assert len({tuple(row.target) for row in rows}) == len(rows)


def test_the_first_of_a_few_sentences_is_the_answer(chat: ChatFormat) -> None:
    rows = leads(spec(lead_steps=2), chat, TEXTS, seed=1)
    known = set(whole_sentences(TEXTS))
    lengths = set()
    for row in rows:
        text = chat.decode(row.source).removeprefix("Summarize: ")
        answer = chat.decode(row.target)
        assert answer in known and text.startswith(answer)
        lengths.add(len(sentences_of(text)))
    # A round over the pool meets every sentence once before any is met again.
    assert len({tuple(row.target) for row in rows[: len(known)]}) == len(known)
    assert lengths > {1}
    tight = leads(spec(lead_steps=2, max_input=20), chat, TEXTS, seed=1)
    assert all(len(row.source) <= 20 and row.source[-1] == chat.eos_id for row in tight)


def test_a_question_is_encoded_as_the_task_it_prepares_for(chat: ChatFormat) -> None:
    """The tokens of a first-sentence row are those of a task with the same text: else nothing would carry over."""
    row = leads(spec(lead_steps=1), chat, TEXTS[2:], seed=1)[0]
    content = chat.decode(row.source)
    task = encode(Prompt([{"role": "user", "content": content}], TEXTS[2]), chat, spec())
    assert (row.source, row.target) == (task.source, task.target)


def test_the_plan_begins_with_copies_and_ends_with_the_tasks(chat: ChatFormat) -> None:
    tasks = [encode(Prompt([{"role": "user", "content": f"Summarize: {text}"}], text), chat, spec()) for text in TEXTS]
    chosen = spec(copy_steps=1, lead_steps=1, epochs=2)
    rows = plan(chosen, chat, TEXTS, tasks, 3)
    assert rows[:8] == copies(chosen, chat, 3) and rows[8:16] == leads(chosen, chat, TEXTS, 3)
    assert sorted(row.source for row in rows[16:]) == sorted(2 * [task.source for task in tasks])
    with pytest.raises(TrainingError, match="lead_steps need text"):
        plan(spec(lead_steps=1), chat, ["no sentence"], tasks, 3)


def test_spans_are_left_out_and_can_be_put_back() -> None:
    ids, sentinels, eos = list(range(100, 160)), list(range(900, 924)), 1
    for seed in range(20):
        pair = corrupt(ids, sentinels, eos, random.Random(seed))
        assert pair.source[-1] == pair.target[-1] == eos
        spans: dict[int, list[int]] = {}
        for token in pair.target[:-1]:
            if token in sentinels:
                mark = spans.setdefault(token, [])
            else:
                mark.append(token)
        restored = [t for token in pair.source[:-1] for t in spans.get(token, [token])]
        assert restored == ids and sum(map(len, spans.values())) == 9 and len(spans) == 3
    assert corrupt(ids[:2], sentinels, eos, random.Random(0)).source  # however short


def test_the_report_tells_what_the_first_sentence_would_get() -> None:
    prompt = [{"role": "user", "content": "Summarize: The mill was sold in May. Nobody knows why."}]
    rows = [{"prompt": prompt, "reply": "The mill burnt.", "reference": "The mill was sold."}]
    assert judge(rows, spec()) == {
        "rouge_l": pytest.approx(2 * 2 / 7),
        "rouge_l_first_sentence": pytest.approx(2 * 4 / 10),
    }
    assert judge([], spec()) == {}


def test_a_template_without_room_for_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="lead_template must hold"):
        smaller("t5.lead_template=Summarize")
