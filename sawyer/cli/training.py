"""`sawyer train` and `sawyer pipeline`."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from sawyer.cli.options import typed
from sawyer.errors import UsageError
from sawyer.home import Home
from sawyer.processes import require_one_process
from sawyer.recipe import Recipe, load_recipe
from sawyer.registry import Registry


def run_train(step: str, recipe_name: str, overrides: list[str], resume: bool, home_path: Path | None) -> None:
    """Train one step of a recipe and promote its result."""
    from train.pipeline import TRAINABLE, train_one

    if step not in TRAINABLE:
        raise UsageError(f"There is no step {step!r}; there are: {', '.join(TRAINABLE)}.")
    recipe, home = load_recipe(recipe_name, overrides), Home.find(home_path).ensure()
    with alone(recipe, home):
        reference = train_one(step, recipe, home, resume=resume)
    current = Registry.of(recipe, home).get(reference).current
    done = (
        f"Done: {reference} is now current."
        if current
        else f"This run was finished before: it is {reference}, and another version has been made current since "
        f"(`sawyer models promote {recipe.name} {reference}` goes back to it)."
    )
    Console().print(f"{done} Its run is in {home.runs / recipe.name / step}.")


def run_all(recipe_name: str, overrides: list[str], resume: bool, home_path: Path | None) -> None:
    """Train every step of a recipe, promote the results, then evaluate them."""
    from sawyer.evaluation import evaluate, print_report
    from sawyer.evaluation.measure import Extras
    from train.pipeline import current_parts, needs_trained, run_pipeline

    recipe, home = load_recipe(recipe_name, overrides), Home.find(home_path).ensure()
    with alone(recipe, home):
        made = run_pipeline(recipe, home, resume=resume)
        Console().print(f"Now current: {', '.join(made.values())}.")
        if current_parts(recipe, home).reward is None and (recipe.ppo is None or needs_trained(recipe)):
            Console().print("Not evaluated: there is no reward model. Add a reward section or set ppo.reward.")
        elif not (recipe.ppo or recipe.evaluate.prompts):
            Console().print("Not evaluated: there are no prompts. Name some in evaluate.prompts.")
        else:
            print_report(evaluate(recipe, home, extras=Extras(command=typed())))
            Console().print(f"Report: {home.runs / recipe.name / 'evaluate' / 'report.html'}", soft_wrap=True)


@contextmanager
def alone(recipe: Recipe, home: Home) -> Iterator[None]:
    """Hold a lock on the recipe's runs: two trainings in one folder would destroy each other's checkpoints.

    The lock goes with the process, so that a killed run leaves none behind.

    Raises:
        UsageError: another training holds it, or a launcher started several processes for this one.
    """
    require_one_process()
    folder = home.runs / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UsageError(
                f"Another training of {recipe.name} is running in {folder} (process {lock.read().strip() or '?'}). "
                "Wait for it, or name another home with --home DIR."
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
