"""The board in the terminal: the figures of ``GET /v1/feedback/board`` as tables."""

from rich.console import Console, Group, RenderableType
from rich.table import Table

from sawyer.types import Board, Interval, Ladder


def print_board(board: Board, console: Console) -> None:
    console.print(Group(*_parts(board)))


def _parts(board: Board) -> list[RenderableType]:
    which = {None: "", True: " blind", False: " open"}[board.blind]
    parts: list[RenderableType] = [f"{board.votes}{which} votes of {board.voters} voters: {_counts(board.choices)}"]
    if not board.votes:
        return parts
    parts.append(_pairs(board))
    parts += _ladder(board.ladder, "Strength (Bradley–Terry, log-odds)")
    parts += _ladder(board.ladder_length_controlled, "Strength at equal length")
    if board.rewards:
        parts.append(_rewards(board))
    parts += [_agreement(board), _position(board), _days(board)]
    if board.rounds:
        parts.append(_rounds(board))
    return parts


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", overflow="fold")
    return table


def _pairs(board: Board) -> Table:
    table = _table("Win rates", "", "against", "win rate [90 %]", "wins", "ties", "losses", "n")
    for pair in board.pairs:
        numbers = (str(number) for number in (pair.wins, pair.ties, pair.losses, pair.n))
        table.add_row(pair.first, pair.second, _interval(pair.win_rate), *numbers)
    return table


def _ladder(ladder: Ladder, title: str) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if ladder.strengths:
        table = _table(title, "", "strength [90 %]", "apart from", "n")
        for strength in ladder.strengths:
            apart = ", ".join(strength.apart_from) or "none"
            table.add_row(strength.contestant, _interval(strength.strength, "+"), apart, str(strength.n))
        parts.append(table)
        if not ladder.separable:
            first, second = (strength.contestant for strength in ladder.strengths[:2])
            parts.append(f"{first} and {second} are not separable yet.")
    if ladder.length_effect is not None:
        parts.append(f"Longer by one deviation: {_interval(ladder.length_effect, '+')} log-odds.")
    if ladder.note:
        parts.append(ladder.note if ladder.strengths else f"{title}: {ladder.note}")
    return parts


def _rewards(board: Board) -> Table:
    table = _table("Rewards of the replies shown", "", "mean", "median", "deviation", "n")
    for rewards in board.rewards:
        deviation = "–" if rewards.deviation is None else f"{rewards.deviation:.2f}"
        table.add_row(rewards.contestant, f"{rewards.mean:.2f}", f"{rewards.median:.2f}", deviation, str(rewards.n))
    return table


def _agreement(board: Board) -> str:
    agreement = board.agreement
    if agreement.share is None:
        return f"Reward model and people: {agreement.note}"
    return f"The preferred reply had the higher reward in {_interval(agreement.share)} of {agreement.n} pairs."


def _position(board: Board) -> str:
    position = board.position
    if not position.counts:
        return f"Position: {position.note}"
    places = " ".join(map(str, position.counts))
    tested = position.note if position.p is None else f"p = {position.p:.2g} if people prefer no place."
    return f"Blind votes by place, left to right: {places} (n = {position.n}). {tested}"


def _days(board: Board) -> Table:
    names = list(board.choices)
    table = _table("Votes a day (UTC)", "day", *names, "n")
    for day in board.days:
        table.add_row(day.day, *(str(day.choices.get(name, 0)) for name in names), str(day.n))
    return table


def _rounds(board: Board) -> Table:
    table = _table("Rounds", "recipe", "round", "state", "method", "candidate", "votes", "because")
    for each in board.rounds:
        what = (each.recipe, str(each.number), each.state, each.method, each.candidate or "–", str(each.votes))
        table.add_row(*what, " ".join(each.reasons))
    return table


def _interval(figure: Interval, sign: str = "") -> str:
    return f"{figure.value:{sign}.2f} [{figure.low:{sign}.2f}, {figure.high:{sign}.2f}]"


def _counts(choices: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in choices.items())
