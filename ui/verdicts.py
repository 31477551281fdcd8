"""The line below the panes: what to do, tie and all bad, thanks, undo, all answers anew."""

from html import escape

from ui import texts
from ui.markup import button
from ui.mode import Mode
from ui.turn import Status, Turn


def verdicts_html(turn: Turn | None, mode: Mode) -> str:
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
        f'<div class="sw-verdicts" role="group" tabindex="-1" aria-label="{escape(mode.prompt)}" '
        f'data-ready="{str(turn.votable and turn.vote is None).lower()}">{_status(turn, mode)}'
        f'<div class="sw-verdict-buttons">{tie}{bad}{undo}{again}</div></div>'
    )


def _status(turn: Turn, mode: Mode) -> str:
    if turn.open:
        return _line("")
    kept = turn.kept
    if kept is None:
        return _line(texts.NOTHING_TO_VOTE)
    # Where every question stands for itself, nothing is continued.
    onward = "" if mode.single else texts.CONTINUES.format(answer=texts.answer_of(kept.behind or kept.stage))
    if turn.turn_id is None:
        return _line(f"{texts.COPIED} {onward}")
    if turn.vote:
        return _line(onward, strong=texts.EDIT_SAVED if kept.edited else texts.VOTE_SAVED, kind=" sw-thanks")
    if turn.revealed:
        return _line(f"{texts.REVEALED} {onward}")
    if not turn.votable:
        return _line(f"{texts.STOPPED_EARLY} {onward}")
    unless = "" if mode.single else texts.CONTINUES_UNLESS.format(answer=texts.answer_of(kept.stage))
    done = {slot: pane.text.strip() for slot, pane in enumerate(turn.panes, start=1) if pane.status is Status.DONE}
    same = texts.SAME_WORDS if len(done) > 1 and len(set(done.values())) == 1 else ""
    keys = texts.KEYS.format(numbers=" ".join(map(str, done)))
    return _line(f"{same} {unless}".strip(), strong=mode.prompt, keys=keys)


def _line(text: str, strong: str = "", keys: str = "", kind: str = "") -> str:
    first = f"<strong>{escape(strong)}</strong> " if strong else ""
    last = f' <span class="sw-keys">{escape(keys)}</span>' if keys else ""
    return f'<p class="sw-status{kind}" role="status">{first}{escape(text.strip())}{last}</p>'
