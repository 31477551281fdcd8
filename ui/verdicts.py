"""The line below the panes: what to do, tie and all bad, thanks, undo, all answers anew."""

from html import escape

from ui import texts
from ui.markup import button
from ui.turn import Status, Turn


def verdicts_html(turn: Turn | None) -> str:
    """Nothing before the first question; while answers come in, the buttons are there and wait."""
    if turn is None:
        return ""
    several = sum(pane.status is Status.DONE for pane in turn.panes) > 1
    tie = button(
        texts.TIED if turn.vote == "tie" else texts.TIE,
        "vote",
        data={"choice": "tie"},
        key="t",
        kind="sw-on" if turn.vote == "tie" else "",
        pressed=turn.vote == "tie",
        disabled=not (turn.votable and several),
    )
    bad = button(
        texts.BAD_CHOSEN if turn.vote == "bad" else texts.BAD,
        "vote",
        data={"choice": "bad"},
        key="b",
        kind="sw-on" if turn.vote == "bad" else "",
        pressed=turn.vote == "bad",
        disabled=not turn.votable,
    )
    undo = button(texts.UNDO, "undo", key="u", picture="undo", kind="sw-plain") if turn.vote and turn.turn_id else ""
    again = button(
        texts.ALL_ANEW,
        "anew",
        picture="again",
        kind="sw-plain",
        streams=True,
        disabled=turn.open or turn.turn_id is None,
    )
    return (
        f'<div class="sw-verdicts" role="group" tabindex="-1" aria-label="{escape(texts.VOTE_PROMPT)}" '
        f'data-ready="{str(turn.votable and turn.vote is None).lower()}">{_status(turn)}'
        f'<div class="sw-verdict-buttons">{tie}{bad}{undo}{again}</div></div>'
    )


def _status(turn: Turn) -> str:
    if turn.open:
        return '<p class="sw-status" role="status"></p>'
    kept = turn.kept
    if kept is None:
        return f'<p class="sw-status" role="status">{escape(texts.NOTHING_TO_VOTE)}</p>'
    onward = texts.CONTINUES.format(answer=texts.answer_of(kept.behind or kept.stage))
    if turn.turn_id is None:
        return f'<p class="sw-status" role="status">{escape(texts.COPIED)} {escape(onward)}</p>'
    if turn.vote:
        thanks = texts.EDIT_SAVED if kept.edited else texts.VOTE_SAVED
        return f'<p class="sw-status sw-thanks" role="status"><strong>{escape(thanks)}</strong> {escape(onward)}</p>'
    if turn.revealed:
        return f'<p class="sw-status" role="status">{escape(texts.REVEALED)} {escape(onward)}</p>'
    if not turn.votable:
        return f'<p class="sw-status" role="status">{escape(texts.STOPPED_EARLY)} {escape(onward)}</p>'
    prompt, keys = escape(texts.VOTE_PROMPT), escape(texts.KEYS)
    unless = escape(texts.CONTINUES_UNLESS.format(answer=texts.answer_of(kept.stage)))
    return (
        f'<p class="sw-status" role="status"><strong>{prompt}</strong> {unless} <span class="sw-keys">{keys}</span></p>'
    )
