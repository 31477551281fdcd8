"""One measured run of ``plan_accuracy``: a stage of training, or serving, in a process of its own.

    python -m benchmarks.plan_worker STAGE RECIPE FOLDER BACKBONE REWARD

prints one JSON object: peak resident MiB above what the imports take. What is run is the project's own
``train_sft``, ``train_reward``, ``train_ppo`` and the server's batch, on rows that are as long as the recipe allows.
"""

import json
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


def words(count: int, draw: random.Random) -> str:
    return " ".join(draw.choice(WORDS) for _ in range(count))


def longest(size: Any, most: int, draw: random.Random) -> str:
    """A text of so many words that ``size`` of it comes as near to ``most`` as it can."""
    count = 1
    while size(words(count + 1, draw)) <= most:
        count += 1
    text = words(count, draw)
    return text if size(text) <= most else longest(size, most - 1, draw)


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

    return write(folder / "prompts.jsonl",
                 [{"prompt": longest(size, recipe.ppo.max_prompt, random.Random(n))} for n in range(count)])  # fmt: skip


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
        serve(recipe, folder, backbone)
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


def serve(recipe: Any, folder: Path, backbone: Path) -> None:
    """Rows of all three stages in the server's batch, until the longest of them is as long as the context."""
    from sawyer.generation import Row
    from sawyer.models import Policy
    from sawyer.ragged import Arrival, RaggedBatch

    policy = Policy.load(backbone, spec=recipe.model)
    for stage in ("sft", "rlf"):
        policy.add_adapter(stage, recipe.lora)
    rows, reply = 6, recipe.serve.max_tokens
    batch = RaggedBatch(policy, max_rows=24, max_tokens=65_536)
    for number in range(rows):
        stage = ("base", "sft", "rlf")[number % 3]
        prompt = [100 + number] * (recipe.model.context - reply)
        row = Row(prompt, stage, reply, seed=number)
        batch.join(Arrival(number, row, None if stage == "base" else stage))
    while batch.running:
        batch.step()


def warm_up(stage: str, recipe: Any, folder: Path, tiny: tuple[Path, Path]) -> None:
    """The same on a model of some thousand weights, so that libraries have made what they make once."""
    small = {"r": 2, "alpha": 2}
    shrunk = type(recipe).model_validate({**recipe.model_dump(), "lora": small})
    place = folder / "warm"
    place.mkdir(exist_ok=True)
    run(stage, with_data(stage, shrunk, place, *tiny), place, *tiny)


def main() -> None:
    stage, recipe_file, folder, backbone, reward, tiny, tiny_reward = sys.argv[1:]
    from sawyer.recipe import load_recipe

    recipe, place = load_recipe(recipe_file), Path(folder)
    told = sys.stdout
    sys.stdout = sys.stderr
    paths = (Path(backbone), Path(reward))
    warm_up(stage, recipe, place, (Path(tiny), Path(tiny_reward)))
    ready = with_data(stage, recipe, place, *paths)
    from sawyer.compute import release_memory

    release_memory()
    before = resident("VmRSS")
    forget_peak()
    run(stage, ready, place, *paths)
    peak = resident("VmHWM")
    print(json.dumps({"imports_mib": before, "peak_mib": peak - before}), file=told)


if __name__ == "__main__":
    main()
