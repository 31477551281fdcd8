"""Data of others: every known layout, and what is wrong with a file said in words."""

import json

import pytest
from typer.testing import CliRunner

from sawyer.cli.feedback import app
from sawyer.data import load_pairs
from sawyer.errors import DataError, UsageError
from sawyer.importing import import_records
from sawyer.recipe import DataSource

USER = [{"role": "user", "content": "Eggs?"}]
GOOD, BAD = ([{"role": "assistant", "content": text}] for text in ("Yes.", "No."))
PAIR = {"prompt": USER, "chosen": GOOD, "rejected": BAD}


def pairs_of(file):
    return [
        (row["prompt"][-1]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"])
        for row in import_records(str(file)).rows
    ]


@pytest.fixture
def write(tmp_path):
    def writing(*records, name="data.jsonl"):
        file = tmp_path / name
        file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return file

    return writing


LAYOUTS = {
    "hh": {"chosen": "\n\nHuman: Eggs?\n\nAssistant: Yes.", "rejected": "\n\nHuman: Eggs?\n\nAssistant: No."},
    "trl explicit": PAIR,
    "trl implicit": {"chosen": [*USER, *GOOD], "rejected": [*USER, *BAD]},
    "trl standard": {"prompt": "Eggs?", "chosen": "Yes.", "rejected": "No."},
    "ultrafeedback binarized": {
        "prompt": "Eggs?",
        "chosen": [*USER, *GOOD],
        "rejected": [*USER, *BAD],
        "score_chosen": 9.0,
        "score_rejected": 1.0,
    },
    "ultrafeedback": {
        "instruction": "Eggs?",
        "completions": [{"response": "No.", "overall_score": 2.0}, {"response": "Yes.", "overall_score": 8.0}],
    },
    "ultrafeedback of argilla": {"instruction": "Eggs?", "chosen_response": "Yes.", "rejected_response": "No."},
    "argilla label": {
        "fields": {"prompt": "Eggs?", "response1": "No.", "response2": "Yes."},
        "responses": {
            "preference": [
                {"value": "response2", "user_id": "u", "status": "submitted"},
                {"value": "response1", "user_id": "w", "status": "draft"},
            ]
        },
    },
    "argilla ranking": {
        "fields": {"prompt": "Eggs?", "a": "No.", "b": "Yes."},
        "responses": {"rank": [{"value": ["b", "a"], "user_id": "u"}]},
    },
    "argilla version 1": {
        "fields": {"prompt": "Eggs?", "a": "No.", "b": "Yes."},
        "responses": [
            {
                "user_id": "u",
                "status": "submitted",
                "values": {"rank": {"value": [{"value": "a", "rank": 2}, {"value": "b", "rank": 1}]}},
            }
        ],
    },
    "argilla flat": {
        "prompt": "Eggs?",
        "response1": "No.",
        "response2": "Yes.",
        "preference.responses": ["response2"],
        "preference.responses.users": ["u"],
        "preference.responses.status": ["submitted"],
    },
    "argilla ratings": {
        "fields": {"prompt": "Eggs?", "reply1": "No.", "reply2": "Yes."},
        "responses": {"reply1_rating": [{"value": 2, "user_id": "u"}], "reply2_rating": [{"value": 5, "user_id": "u"}]},
    },
}
# With every column that the real sets and exports have: names from their cards and from Argilla's source.
LAYOUTS |= {
    "anthropic/hh-rlhf": {
        "chosen": "\n\nHuman: Eggs?\n\nAssistant: Yes.",
        "rejected": "\n\nHuman: Eggs?\n\nAssistant: No.",
    },
    "openbmb/UltraFeedback": {
        "source": "evol_instruct",
        "instruction": "Eggs?",
        "models": ["alpaca-7b", "gpt-4"],
        "completions": [
            {
                "annotations": {"helpfulness": {"Rating": rating, "Rationale": "…", "Type": ["1"]}},
                "custom_system_prompt": "You are kind.",
                "model": model,
                "principle": "honesty",
                "response": response,
                "critique": "…",
                "overall_score": score,
                "fine-grained_score": score / 2,
            }
            for model, response, rating, score in (("alpaca-7b", "No.", "N/A", 2.0), ("gpt-4", "Yes.", "5", 8.5))
        ],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    },
    "HuggingFaceH4/ultrafeedback_binarized": {
        "prompt": "Eggs?",
        "prompt_id": "0a1b",
        "chosen": [*USER, *GOOD],
        "rejected": [*USER, *BAD],
        "messages": [*USER, *GOOD],
        "score_chosen": 8.5,
        "score_rejected": 2.0,
    },
    "argilla/ultrafeedback-binarized-preferences": {
        "source": "evol_instruct",
        "instruction": "Eggs?",
        "chosen_response": "Yes.",
        "rejected_response": "No.",
        "chosen_avg_rating": 4.5,
        "rejected_avg_rating": 2.0,
        "chosen_model": "gpt-4",
    },
    "argilla/ultrafeedback-binarized-preferences-cleaned": {
        "source": "evol_instruct",
        "prompt": "Eggs?",
        "chosen": [*USER, *GOOD],
        "chosen-rating": 4.5,
        "chosen-model": "gpt-4",
        "rejected": [*USER, *BAD],
        "rejected-rating": 2.0,
        "rejected-model": "alpaca-7b",
    },
    "argilla 2, to_list()": {
        "id": "r1",
        "fields": {"prompt": "Eggs?", "response1": "No.", "response2": "Yes."},
        "metadata": {"model": "gpt-4"},
        "suggestions": {"preference": {"value": "response1", "score": 0.9, "agent": "gpt-4"}},
        "responses": {"preference": [{"value": "response2", "user_id": "u"}]},
        "vectors": {},
        "status": "completed",
        "_server_id": "5f6c",
    },
    "argilla 2, to_list(flatten=True)": {
        "id": "r1",
        "status": "completed",
        "_server_id": "5f6c",
        "prompt": "Eggs?",
        "response1": "No.",
        "response2": "Yes.",
        "model": "gpt-4",
        "preference.responses": ["response2", "response1"],
        "preference.responses.users": ["u", "w"],
        "preference.responses.status": ["submitted", "discarded"],
        "preference.suggestion": "response1",
        "preference.suggestion.score": 0.9,
        "preference.suggestion.agent": "gpt-4",
    },
    "argilla 1 on the hub": {
        "prompt": "Eggs?",
        "reply-1": "No.",
        "reply-2": "Yes.",
        "preference": [
            {"user_id": "u", "status": "submitted",
             "value": [{"rank": 1, "value": "reply-2"}, {"rank": 2, "value": "reply-1"}]},
            {"user_id": "w", "status": "discarded", "value": None},
        ],
        "preference-suggestion": None,
        "preference-suggestion-metadata": {"type": None, "score": None, "agent": None},
        "external_id": "r1",
        "metadata": "{}",
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_preferences(write, layout):
    assert pairs_of(write(LAYOUTS[layout])) == [("Eggs?", "Yes.", "No.")]


def test_margins_are_kept(write):
    for layout in LAYOUTS:
        margins = [row.get("margin") for row in import_records(str(write(LAYOUTS[layout]))).rows]
        scored = "ultrafeedback" in layout.lower() and layout != "ultrafeedback of argilla"
        assert all((margin or 0) > 1 for margin in margins) == scored, layout


def test_kto_and_sft(write):
    kto = import_records(
        str(
            write(
                {"prompt": USER, "completion": GOOD, "label": True},
                {"prompt": "Eggs?", "completion": "No.", "label": False},
            )
        )
    )
    assert (kto.form, kto.rows[1]) == ("kto", {"prompt": USER, "completion": BAD, "label": False})
    sft = import_records(str(write({"messages": [*USER, *GOOD]}, {"messages": USER})))
    assert (sft.form, sft.rows, sft.skipped, sft.first_skipped) == ("sft", [{"messages": [*USER, *GOOD]}], 1, 2)
    assert import_records(str(write({"instruction": "Eggs?", "output": "Yes."}))).rows == [{"messages": [*USER, *GOOD]}]


def test_duplicates_are_left_out_and_opposites_counted(write):
    found = import_records(str(write(PAIR, PAIR, PAIR | {"chosen": BAD, "rejected": GOOD}, PAIR | {"rejected": GOOD})))
    assert (len(found.rows), found.duplicates, found.contradictions, found.skipped) == (2, 1, 1, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question_a": "x", "winner": 1}\n', "columns of .*question_a, winner.* no layout known"),
        (b'{"prompt": "x", "chosen": "a", "rejected": "b"}\n{"prompt": "\xff"}\n', "line 2 is not UTF-8"),
        (b'{"prompt": "x"\n', "line 1 is no JSON"),
        (b'["x"]\n', "line 1 is no JSON object"),
        (b"\n", "holds no records"),
        (b'{"prompt": "", "chosen": "a", "rejected": "b"}\n', "1 records, none usable as preference"),
        (b'{"prompt": "x", "chosen": "a", "rejected": "a"}\n', "none usable as preference"),
        (b'{"prompt": "x", "completion": "a", "label": "yes"}\n', "none usable as kto"),
    ],
)
def test_faults_are_told(tmp_path, content, message):
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        import_records(str(file))


def test_the_command_makes_a_folder_that_recipes_name(write, tmp_path):
    def run(*arguments):
        return CliRunner().invoke(app, ["import", *arguments, "--home", str(tmp_path / "home")])

    file = write(PAIR, PAIR, name="friends.jsonl")
    done = run(str(file))
    folder = tmp_path / "home" / "data" / "friends"
    assert (
        done.exit_code == 0
        and "1 preference rows from 2 records" in done.output
        and "1 exact duplicates" in done.output
    )
    (pair,) = load_pairs([DataSource(name=str(folder))])
    assert (pair.prompt, pair.chosen, pair.rejected) == (USER, "Yes.", "No.")
    assert "1 preference rows" in (folder / "README.md").read_text()
    assert isinstance(run(str(file)).exception, UsageError)
    assert run(str(file), "--overwrite").exit_code == 0
    assert isinstance(run(str(file), "--name", "../out").exception, UsageError)
