"""The versions' part of the review page: what is stored, what is served, and what was promoted when."""

from html import escape

from sawyer.types import RegistryState, VersionState
from ui.review import texts
from ui.review.parts import act_button, chip, table


def versions_html(registry: RegistryState) -> str:
    if not registry.versions:
        return f'<p class="bd-wait">{texts.VERSIONS_NONE}</p>'
    stages = dict.fromkeys(version.stage for version in registry.versions)
    return "".join(_stage(stage, registry) for stage in stages) + _history(registry)


def _stage(stage: str, registry: RegistryState) -> str:
    rows = (_row(version) for version in registry.versions if version.stage == stage)
    back = act_button(
        texts.ROLL_BACK.format(stage=stage),
        "rollback",
        stage=stage,
        confirm=texts.ROLL_BACK_CONFIRM.format(stage=stage),
    )
    listed = table(f"{texts.VERSIONS}: {stage}", texts.VERSION_COLUMNS, rows)
    return f'<section class="bd-card"><div class="rv-line"><h3>{escape(stage)}</h3>{back}</div>{listed}</section>'


def _row(version: VersionState) -> tuple[str, ...]:
    promote = act_button(
        texts.PROMOTE,
        "promote",
        ref=version.ref,
        label=texts.PROMOTE_CANDIDATE.format(ref=version.ref),
        confirm=texts.PROMOTE_CONFIRM.format(ref=version.ref),
    )
    return (
        f"<b>{escape(version.ref)}</b>",
        chip("approved", texts.SERVED) if version.current else "",
        f"<time>{escape(_minute(version.created)) if version.created else texts.NOT_KNOWN}</time>",
        escape(version.about),
        "" if version.current else promote,
    )


def _history(registry: RegistryState) -> str:
    if not registry.history:
        return ""
    rows = "".join(f"<li>{escape(_entry(entry))}</li>" for entry in registry.history)
    return f'<section class="bd-card"><h3>{texts.HISTORY}</h3><ul class="rv-history">{rows}</ul></section>'


def _entry(entry: dict) -> str:
    """One line of the history: when, what, which versions."""
    refs = entry.get("versions") or []
    named = ", ".join(map(str, refs)) if isinstance(refs, list) else str(refs)
    when = _minute(str(entry.get("at", "")))
    return " · ".join(part for part in (when, str(entry.get("action", "")), named) if part)


def _minute(iso: str) -> str:
    """``2026-11-21T19:44:10+00:00`` as ``2026-11-21 19:44``."""
    return iso[:16].replace("T", " ")
