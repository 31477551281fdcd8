"""Every pair of replies put before the judge in both orders; each answer is kept, so that no token is paid twice."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sawyer.data_formats import Message
from sawyer.errors import ModelError
from sawyer.estimates import wilson
from sawyer.evaluation.figures import Answers, interval
from sawyer.evaluation.judging.client import ChatJudge, Told
from sawyer.evaluation.judging.verdict import Verdict, consistent, fill, score, understand
from sawyer.evaluation.report import LlmJudge, PairFigures, WinRate
from sawyer.evaluation.win_rates import win_rate
from sawyer.progress import progress
from sawyer.runs import read_lines

Row = tuple[int, Verdict, Verdict]  # a prompt, and what was said of its two replies in either order

AT_ONCE = 4
MOSTLY = 0.5  # with more nonsense than this, the judge is no judge


@dataclass(frozen=True)
class JudgePlan:
    """Who judges, with what question, and on how many prompts (None: all)."""

    judge: ChatJudge
    template: str
    limit: int | None = None


def judge_pairs(
    plan: JudgePlan,
    prompts: Sequence[list[Message]],
    answers: Sequence[Answers],
    pairs: Sequence[PairFigures],
    kept: Path,
    seed: int,
) -> tuple[LlmJudge, list[WinRate]]:
    """Win rates of each comparison by the judge, and how far it can be trusted.

    Args:
        kept: file of answers, a JSON line each.

    Raises:
        ModelError: the service fails, or most of its answers are nonsense.
    """
    by_stage = {answer.stage: answer for answer in answers}
    count = min(len(prompts), plan.limit or len(prompts))
    questions = [
        (pair, index, *_questions(plan.template, prompts[index], by_stage[pair.before], by_stage[pair.after], index))
        for pair in pairs
        for index in range(count)
    ]
    told = _answers(plan.judge, [text for *_, there, back in questions for text in (there, back) if text], kept)
    verdicts: dict[tuple[str, str], list[Row]] = {(pair.before, pair.after): [] for pair in pairs}
    asked = list[tuple[Verdict, Verdict]]()
    for pair, index, there, back in questions:
        if there:
            asked.append((understand(told[there].text), understand(told[back].text)))
        verdicts[pair.before, pair.after].append((index, *(asked[-1] if there else (Verdict.TIE, Verdict.TIE))))
    rates = [
        _rate(by_stage[before], by_stage[after], rows, plan.judge.model, seed)
        for (before, after), rows in verdicts.items()
    ]
    return _trust(plan, told, asked, count), rates


def _questions(template: str, messages: list[Message], before: Answers, after: Answers, index: int) -> tuple[str, str]:
    """Both orders; empty where the two replies are the same text, which is a tie that costs nothing."""
    one, other = before.texts[index], after.texts[index]
    if one.strip() == other.strip():
        return "", ""
    return fill(template, messages, one, other), fill(template, messages, other, one)


def _rate(before: Answers, after: Answers, rows: Sequence[Row], by: str, seed: int) -> WinRate:
    scored = [(index, worth) for index, there, back in rows if (worth := score(there, back)) is not None]
    lengths = [len(after.replies[index].ids) - len(before.replies[index].ids) for index, _ in scored]
    return win_rate(
        f"LLM judge {by}",
        before.stage,
        after.stage,
        np.array([worth for _, worth in scored]),
        np.array(lengths, dtype=np.float64),
        seed,
        left_out=len(rows) - len(scored),
    )


def _trust(plan: JudgePlan, told: dict[str, Told], asked: Sequence[tuple[Verdict, Verdict]], count: int) -> LlmJudge:
    """The judge's own figures. ModelError: most of what it says is nonsense."""
    said = [understand(one.text) for one in told.values()]
    nonsense = said.count(Verdict.NONSENSE)
    if said and nonsense > MOSTLY * len(said):
        example = next(one.text for one in told.values() if understand(one.text) is Verdict.NONSENSE)
        raise ModelError(
            f"The judge {plan.judge.model} answers nonsense: {nonsense} of {len(said)} answers end with neither A, B "
            f"nor TIE, such as {example.strip()[-80:]!r}. Take a stronger model, or another --llm-template."
        )
    both = [pair for pair in asked if Verdict.NONSENSE not in pair]
    chosen = [verdict for verdict in said if verdict in (Verdict.FIRST, Verdict.SECOND)]
    return LlmJudge(
        url=plan.judge.url,
        model=plan.judge.model,
        template=plan.template,
        prompts=count,
        questions=len(said),
        nonsense=nonsense,
        consistency=interval(wilson(sum(consistent(*one) for one in both), len(both))) if both else None,
        first_place=interval(wilson(chosen.count(Verdict.FIRST), len(chosen))) if chosen else None,
        prompt_tokens=sum(one.prompt_tokens for one in told.values()),
        completion_tokens=sum(one.completion_tokens for one in told.values()),
    )


def _answers(judge: ChatJudge, questions: Sequence[str], kept: Path) -> dict[str, Told]:
    """The judge's answer to each question, from the file where it is there."""
    have = {row["key"]: Told(row["text"], row["prompt_tokens"], row["completion_tokens"]) for row in _kept(kept)}
    keys = {question: _key(judge, question) for question in dict.fromkeys(questions)}
    todo = [question for question, key in keys.items() if key not in have]
    with (
        progress("judge", len(keys)) as tick,
        kept.open("a", encoding="utf-8") as stream,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):
        futures = [pool.submit(judge.ask, question) for question in todo]
        try:
            for number, (question, future) in enumerate(zip(todo, futures, strict=True), 1):
                have[keys[question]] = told = future.result()
                stream.write(json.dumps({"key": keys[question], **vars(told)}, ensure_ascii=False) + "\n")
                stream.flush()
                tick(len(keys) - len(todo) + number)
        except ModelError:
            for future in futures:  # what has not begun would be paid for in vain
                future.cancel()
            raise
    return {question: have[key] for question, key in keys.items()}


def _kept(file: Path) -> list[dict[str, Any]]:
    """What was answered before; a torn last line is cut off, or what follows would be glued to it."""
    rows = read_lines(file)
    if file.exists():
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return rows


def _key(judge: ChatJudge, question: str) -> str:
    asked = json.dumps([judge.url, judge.model, judge.max_tokens, question])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]
