"""``evaluate``: the stages answer held-out prompts, the reward model scores the replies, a report says what it means.

Written to the run folder: ``report.json`` (schema: ``report.Report``), ``report.html``, every plot as PNG and SVG,
``answers.jsonl`` (every prompt with every reply), ``replies.jsonl`` (the cache), ``recipe.yaml`` and, last,
``manifest.json``.
"""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sawyer import __version__
from sawyer.compute import set_threads
from sawyer.errors import UsageError
from sawyer.evaluation.acceptance import deciding_pair, judge
from sawyer.evaluation.benchmarks.harness import check_harness
from sawyer.evaluation.card import render_card
from sawyer.evaluation.contestants import Models, check_names, load_models
from sawyer.evaluation.examiner import Examiner, adapter_of
from sawyer.evaluation.figures import Answers, reply_of, sample_rows, stage_figures
from sawyer.evaluation.measure import Extras, Measured, measure
from sawyer.evaluation.page import render_page
from sawyer.evaluation.plots import draw_all
from sawyer.evaluation.prompts import Chosen, choose_prompts, data_hashes
from sawyer.evaluation.replies import ReplyCache
from sawyer.evaluation.report import Report, Sampling
from sawyer.home import Home
from sawyer.recipe import Recipe
from sawyer.runs import MANIFEST, Run, write_json

STEP = "evaluate"


def evaluate(
    recipe: Recipe,
    home: Home,
    *,
    stages: Sequence[str] | None = None,
    out: Path | None = None,
    models: Models | None = None,
    extras: Extras | None = None,
) -> Report:
    """Evaluate stages of a recipe on its held-out prompts and write the report.

    Args:
        stages: names (``base``, ``sft``, ``rlf``) or versions (``rlf@1``), in the order of comparison; default: base
            and every stage that has a current version (all stages of ``models`` where those are given).
        out: folder of the report; default: ``runs/<recipe>/evaluate`` of the home. Replies are kept in the latter.
        models: what to ask, already loaded; default: the registry's versions.
        extras: what else is asked; default: nothing.

    Raises:
        UsageError: a stage without adapter, no reward model, no prompts named, a folder that cannot be written.
        DataError: too few held-out prompts. ModelError, CheckpointError: a model cannot be loaded.
    """
    started = time.monotonic()
    set_threads(recipe.threads)
    home.ensure()
    extras = extras or Extras()
    if extras.benchmarks is not None:
        check_harness()  # before anything is loaded
    if models is None:
        models, names = load_models(recipe, home, stages)
    else:
        names = tuple(stages or models.policy.stages)
        check_names(names)
        for stage in names:
            models.policy.check_stage(adapter_of(stage))
    chosen = choose_prompts(recipe, models.policy.chat, [adapter_of(name) for name in names], models.policy.context)
    kept = home.runs / recipe.name / STEP
    with _open_run(recipe, out or kept, kept) as run:
        examiner = Examiner(recipe, models, chosen, ReplyCache(kept / "replies.jsonl"))
        made = measure(examiner, names, extras, kept)
        report = _report(recipe, models, chosen, made, round(time.monotonic() - started, 1))
        _write(run, report, chosen, made.answers)
    return report


def _open_run(recipe: Recipe, folder: Path, kept: Path) -> Run:
    """The run folder, earlier replies kept. An earlier report is not done any more, and its recipe binds nothing."""
    try:
        for name in (MANIFEST, "recipe.yaml"):
            (folder / name).unlink(missing_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"The report cannot be written to {folder}: {error.strerror or error}. Name another folder with --out DIR, "
            "or another home with --home DIR."
        ) from error
    return Run(folder, step=STEP, recipe=recipe, resume=True)


def _report(recipe: Recipe, models: Models, chosen: Chosen, made: Measured, seconds: float) -> Report:
    spec, stages = recipe.evaluate, [answer.stage for answer in made.answers]
    deciding = deciding_pair(made.pairs, stages)
    acceptance = judge(deciding, made.parts) if deciding else []
    messages = [prompt.messages for prompt in chosen.prompts]
    return Report(
        recipe=recipe.name,
        command=made.command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sawyer=__version__,
        libraries={name: version(name) for name in ("torch", "transformers", "peft")},
        reward_model=models.reward_name,
        fingerprint=models.policy.fingerprint,
        data=data_hashes(recipe),
        sampling=Sampling(
            max_new_tokens=spec.max_new_tokens, temperature=spec.temperature, top_p=spec.top_p, seed=recipe.seed
        ),
        prompts=chosen.describe(),
        stages=[stage_figures(answer, recipe.seed) for answer in made.answers],
        pairs=made.pairs,
        parts=made.parts,
        judge=made.judge,
        win_rates=made.win_rates,
        llm_judge=made.llm_judge,
        benchmarks=made.benchmarks,
        acceptance=acceptance,
        accepted=all(criterion.met for criterion in acceptance) if acceptance else None,
        samples=sample_rows(messages, made.answers, spec.samples, recipe.seed),
        seconds=seconds,
    )


def _write(run: Run, report: Report, chosen: Chosen, answers: Sequence[Answers]) -> None:
    folder, plots = run.folder, draw_all(report)
    files = [folder / name for name in ("report.json", "report.html", "answers.jsonl", "card.md")]
    write_json(files[0], report.model_dump(mode="json"))
    files[1].write_text(render_page(report, plots), encoding="utf-8")
    for name, plot in plots.items():
        for suffix, data in (("png", plot.light), ("svg", plot.svg)):
            files.append(folder / f"{name}.{suffix}")
            files[-1].write_bytes(data)
    lines = [
        {"messages": prompt.messages, "replies": [reply_of(answer, index).model_dump() for answer in answers]}
        for index, prompt in enumerate(chosen.prompts)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    files[2].write_text(text, encoding="utf-8")
    files[3].write_text(render_card(report), encoding="utf-8")
    run.finish(*files, accepted=report.accepted)
