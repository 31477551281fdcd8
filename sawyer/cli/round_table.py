"""A round on the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sawyer.types.rounds import RoundDetail


def print_round(record: RoundDetail, console: Console) -> None:
    """The gate as a table, and what came of the round. Markup in texts is shown, not obeyed."""
    table = Table(title=f"Round {record.number} of {record.recipe}", title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("condition", "measured", "allowed", ""):
        table.add_column(heading, overflow="fold")
    for condition in record.conditions:
        verdict = Text("met", style="green") if condition.met else Text("not met", style="red")
        table.add_row(Text(condition.name), Text(condition.measured), Text(condition.allowed), verdict)
    if record.conditions:
        console.print(table)
    ends = {
        "promoted": f"{record.candidate} is now current, in place of {record.current}.",
        "dry": f"{record.candidate} passed the gate. It was a dry run: {record.current} stays current.",
    }
    console.print(ends.get(record.state, record.state), markup=False, highlight=False)
