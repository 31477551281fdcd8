"""The measurements of ``plan_accuracy``: stages of training and serving, each in a process of its own.

    python -m benchmarks.plan_worker FOLDER < cases

One line of standard input is one case, ``{"stage", "recipe", "backbone", "reward"}``, paths all but the first. One line
of output answers it: the peak of the resident size above what the imports take, in MiB. What is run is the project's
own ``train_sft``, ``train_reward``, ``train_ppo`` and the server's batch, on rows as long as the recipe allows.
Libraries are imported, and made to make what they make once, before the process is forked for a case.
"""

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

WORDS = ("tea", "river", "quiet", "lamp", "seven", "garden", "north", "paper", "wind", "bread", "stone", "little")
MIB = 2**20


def resident(key: str) -> float:
    """``VmRSS`` or ``VmHWM`` of this process in MiB."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {key}: this benchmark needs Linux.")


def forget_peak() -> None:
    """Let the kernel count the peak from here on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def longest(size: Any, most: int, draw: random.Random) -> str:
    """A text of which ``size`` is ``most``, or as near below as words can bring it."""
    told: list[str] = []
    while True:
        some = draw.sample(WORDS, len(WORDS))
        word = next((word for word in some if size(" ".join([*told, word])) <= most), None)
        if word is None:
            return " ".join(told)
        told.append(word)


def write(path: Path, records: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def conversations(folder: Path, backbone: Path, recipe: Any, count: int) -> str:
    """Conversations of ``sft.max_length`` tokens, nearly all of them the reply's."""
    from sawyer.chat import ChatFormat
    from sawyer.loading import load_tokenizer

    chat = ChatFormat(load_tokenizer(backbone, recipe.model), recipe.model.chat)

    def made(reply: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "tea"}, {"role": "assistant", "content": reply}]

    records = []
    for number in range(count):
        reply = longest(lambda text: len(chat.encode_conversation(made(text))[0]), recipe.sft.max_length,
                        random.Random(number))  # fmt: skip
        messages = made(reply)
        messages[0]["content"] = WORDS[number % len(WORDS)]
        records.append({"messages": messages})
    return write(folder / "conversations.jsonl", records)


def pairs(folder: Path, reward: Path, recipe: Any, count: int) -> str:
    """Pairs whose replies fill ``reward.max_length`` tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reward)
    records = []
    for number in range(count):
        draw = random.Random(number)
        texts = [longest(lambda text: len(tokenizer("tea", text)["input_ids"]), recipe.reward.max_length, draw)
                 for _ in range(2)]  # fmt: skip
        records.append({"prompt": f"tea {number}", "chosen": texts[0], "rejected": texts[1]})
    return write(folder / "pairs.jsonl", records)


def prompts(folder: Path, backbone: Path, recipe: Any, count: int) -> str:
    """Prompts of ``ppo.max_prompt`` tokens."""
    from sawyer.chat import ChatFormat
    from sawyer.loading import load_tokenizer

    chat = ChatFormat(load_tokenizer(backbone, recipe.model), recipe.model.chat)

    def size(text: str) -> int:
        return len(chat.encode_prompt([{"role": "user", "content": text}], "rlf"))

    texts = [longest(size, recipe.ppo.max_prompt, random.Random(number)) for number in range(count)]
    return write(folder / "prompts.jsonl", [{"prompt": text} for text in texts])


def with_data(stage: str, recipe: Any, folder: Path, backbone: Path, reward: Path) -> Any:
    """The recipe with sources of its own."""
    if stage == "sft":
        source = {"name": conversations(folder, backbone, recipe, 2 * recipe.sft.batch_size)}
        section = {"sft": {**recipe.sft.model_dump(), "sources": [source]}}
    elif stage == "reward":
        source = {"name": pairs(folder, reward, recipe, 2 * recipe.reward.batch_size)}
        section = {"reward": {**recipe.reward.model_dump(), "model": str(reward), "sources": [source]}}
    elif stage == "ppo":
        source = {"name": prompts(folder, backbone, recipe, 2 * recipe.ppo.batch_size)}
        part = {"classifier": str(reward), "batch_size": recipe.ppo.parts[0].batch_size}
        section = {"ppo": {**recipe.ppo.model_dump(), "prompts": [source], "reward": [part]}}
    else:
        return recipe
    return type(recipe).model_validate({**recipe.model_dump(), **section})


def run(stage: str, recipe: Any, folder: Path, backbone: Path, reward: Path) -> None:
    """The stage itself."""
    if stage == "serve":
        serve(recipe, backbone, reward)
        return
    from sawyer.runs import Run

    with Run(folder / stage, step=stage, recipe=recipe) as record:
        if stage == "sft":
            from train.sft import train_sft

            train_sft(recipe, record, backbone)
        elif stage == "reward":
            from train.reward_model import train_reward

            train_reward(recipe, record)
        else:
            from train.ppo import train_ppo

            train_ppo(recipe, record, backbone, None, None)


def serve(recipe: Any, backbone: Path, reward: Path) -> None:
    """Rows of all three stages in the server's batch, until the longest of them is as long as the context."""
    from sawyer.generation import Row
    from sawyer.models import Policy
    from sawyer.ragged import Arrival, RaggedBatch
    from sawyer.scoring.classifier import ClassifierScorer

    scorer = ClassifierScorer(reward)
    policy = Policy.load(backbone, spec=recipe.model)
    for stage in ("sft", "rlf"):
        policy.add_adapter(stage, recipe.lora)
    reply = recipe.serve.max_tokens
    batch = RaggedBatch(policy, max_rows=recipe.serve.max_rows, max_tokens=65_536)
    for number in range(recipe.serve.max_rows):
        stage = ("base", "sft", "rlf")[number % 3]
        prompt = [100 + number] * (recipe.model.context - reply)
        row = Row(prompt, stage, reply, seed=number)
        batch.join(Arrival(number, row, None if stage == "base" else stage))
    while batch.running:
        batch.step()
    scorer.score([[{"role": "user", "content": "tea"}]], ["bread"])


def warm_up(stage: str, recipe: Any, folder: Path, tiny: tuple[Path, Path]) -> None:
    """The same on a model of some thousand weights, so that libraries have made what they make once."""
    shrunk = type(recipe).model_validate({**recipe.model_dump(), "lora": {"r": 2, "alpha": 2}})
    place = folder / f"warm-{stage}"
    place.mkdir()
    run(stage, with_data(stage, shrunk, place, *tiny), place, *tiny)


def measure(stage: str, recipe: Any, place: Path, backbone: Path, reward: Path) -> dict[str, float]:
    """The peak of one run; to be called in a process that ends with it."""
    from sawyer.compute import release_memory

    ready = with_data(stage, recipe, place, backbone, reward)
    release_memory()
    before = resident("VmRSS")
    forget_peak()
    run(stage, ready, place, backbone, reward)
    return {"imports_mib": before, "peak_mib": resident("VmHWM") - before}


def in_a_child(stage: str, *rest: Any) -> dict[str, float]:
    """:func:`measure` in a fork of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, json.dumps(measure(stage, *rest)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read()
    if os.waitpid(child, 0)[1] or not told:
        raise SystemExit(f"The measurement of {stage} ended early; its error stands above.")
    return json.loads(told)


def main() -> None:
    folder, warm = Path(sys.argv[1]), set()
    told = sys.stdout
    sys.stdout = sys.stderr
    from sawyer.recipe import load_recipe

    for number, line in enumerate(sys.stdin):
        case = json.loads(line)
        stage, recipe, place = case["stage"], load_recipe(case["recipe"]), folder / str(number)
        place.mkdir()
        if stage not in warm:
            warm.add(stage)
            warm_up(stage, recipe, place, (folder / "base" / "warm", folder / "reward" / "warm"))
        print(json.dumps(in_a_child(stage, recipe, place, Path(case["backbone"]), Path(case["reward"]))), file=told,
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
