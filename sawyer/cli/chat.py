"""`sawyer chat`: the stages side by side in the terminal; the voted answer continues the conversation."""

from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from sawyer.errors import ModelError, SawyerError
from sawyer.home import Home
from sawyer.recipe import Recipe, load_recipe

KEYS = {"t": "tie", "b": "bad"}
HELP = "Type a message. Then a number votes for the best answer, t is a tie, b all bad, Enter skips. Ctrl-D ends."


def run_chat(recipe_name: str, home_path: Path | None) -> None:
    """Ask all stages of a recipe, show their replies as they come, and keep the votes in the store."""
    recipe, home = load_recipe(recipe_name), Home.find(home_path).ensure()
    console = Console()
    with console.status("Loading the model …"):
        policy, versions = load_policy(recipe, home)

    from sawyer.store import FeedbackStore

    with FeedbackStore.open(home.db_url) as store:
        console.print(HELP)
        conversation, messages, seed = store.add_conversation(recipe=recipe.name), [], 0
        while True:
            try:
                said = console.input("\n[bold]You:[/] ").strip()
            except (EOFError, KeyboardInterrupt):
                return
            if not said:
                continue
            messages.append({"role": "user", "content": said})
            seed += 1
            try:
                replies = _answer(console, policy, messages, recipe, seed)
            except ModelError as error:
                console.print(str(error), style="red", markup=False)
                messages.pop()
                continue
            turn = store.add_turn(conversation, messages)
            for stage, reply in replies.items():
                store.add_completion(
                    turn,
                    stage,
                    prompt_text=policy.chat.render_prompt(messages, stage),
                    text=reply.text,
                    tokens=len(reply.ids),
                    adapter_version=versions[stage],
                    sampling={"temperature": recipe.serve.temperature, "top_p": recipe.serve.top_p},
                    seed=seed,
                    finish_reason="stop" if reply.finished else "length",
                )
            voted = _vote(console, store, turn, list(replies))
            messages.append({"role": "assistant", "content": replies[voted].text or "…"})


def load_policy(recipe: Recipe, home: Home) -> tuple[Any, dict[str, str]]:
    """Load the registry's current versions; returns the policy and each stage's version reference.

    Raises:
        SawyerError: the recipe has no trained or shipped backbone.
    """
    from sawyer.models import Policy
    from sawyer.registry import Registry

    registry = Registry.of(recipe, home)
    base = registry.current("base")
    backbone = recipe.model.backbone or (base.path if base else None)
    if backbone is None:
        raise SawyerError(f"The recipe {recipe.name} has no backbone yet: run `sawyer pipeline {recipe.name}` first.")
    found = {stage: registry.current(stage) for stage in ("sft", "rlf")}
    adapters = {stage: version.path for stage, version in found.items() if version}
    policy = Policy.load(backbone, adapters, spec=recipe.model)
    versions = {"base": base.ref if base else str(backbone)}
    return policy, versions | {stage: version.ref for stage, version in found.items() if version}


def _answer(console: Console, policy: Any, messages: list[dict[str, str]], recipe: Recipe, seed: int) -> dict[str, Any]:
    from sawyer.generation import Row, decode, finish_generation, row_seed

    spec = recipe.serve
    rows = [
        Row(
            policy.chat.encode_prompt(messages, stage),
            stage,
            spec.max_tokens,
            spec.temperature,
            spec.top_p,
            row_seed(seed, 0),
            tuple(policy.chat.stop_strings(stage)),
        )
        for stage in policy.stages
    ]
    made: list[list[Any]] = [[] for _ in rows]
    with Live(console=console, refresh_per_second=12) as live:
        for step in decode(policy, rows):
            for token in step:
                made[token.row].append(token)
            replies = [finish_generation(policy, row, tokens) for row, tokens in zip(rows, made, strict=True)]
            live.update(_panes(console, list(policy.stages), [reply.text for reply in replies]))
    return dict(zip(policy.stages, replies, strict=True))


def _panes(console: Console, stages: list[str], texts: list[str]) -> Group:
    width = max(24, console.width // len(stages) - 2)
    panes = [
        Panel(Text(text), title=f"{number} {stage.upper()}", width=width)
        for number, (stage, text) in enumerate(zip(stages, texts, strict=True), start=1)
    ]
    return Group(Columns(panes, padding=(0, 1)))


def _vote(console: Console, store: Any, turn: str, stages: list[str]) -> str:
    """Ask for a vote and keep it; returns the stage whose answer continues the conversation."""
    keys = {str(number): stage for number, stage in enumerate(stages, start=1)} | KEYS
    while True:
        try:
            key = console.input(f"[dim]Best? {' '.join(keys)} or Enter:[/] ").strip().lower()
        except EOFError:
            return stages[-1]
        if not key:
            return stages[-1]
        if key in keys:
            store.add_vote(turn, keys[key], voter="terminal")
            return keys[key] if keys[key] in stages else stages[-1]
        console.print(f"Type one of: {', '.join(keys)}.")
