"""What the page knows of the server: who answers, whether it is ready, and if not, why not."""

from dataclasses import dataclass

from sawyer.types import MAX_PANES, STAGES, ServerInfo
from ui import texts
from ui.mode import COMPARE, SUMMARIES, Mode


@dataclass(frozen=True)
class Connection:
    """``info`` is None until the server has answered once. ``notice`` is a sentence to show, or empty.

    ``wanted`` are the panes this visitor wants to see side by side; empty: all stages.
    """

    info: ServerInfo | None = None
    notice: str = ""
    wanted: tuple[str, ...] = ()

    @property
    def ready(self) -> bool:
        return self.info is not None and self.info.ready

    @property
    def summarises(self) -> bool:
        return self.info is not None and self.info.kind == "summary"

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that can be asked, or all of them while the server has not said."""
        return tuple(self.info.stages) if self.info and self.info.stages else STAGES

    @property
    def panes(self) -> tuple[str, ...]:
        """What stands side by side: as the visitor chose where that can still be had, else the stages."""
        chosen = tuple(name for name in self.wanted if name in self.choices)
        return chosen[:MAX_PANES] or self.stages

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be asked: the stages, and every version by name."""
        return (*self.stages, *(self.info.refs if self.info else ()))

    @property
    def examples(self) -> tuple[str, ...]:
        return tuple(self.info.examples) if self.info and self.info.examples else texts.EXAMPLES

    def mode(self, mode: Mode) -> Mode:
        """How to talk to this server on a page: the front page of one that summarises is the summaries page."""
        return SUMMARIES if self.summarises and mode is COMPARE else mode

    def prompt(self, text: str) -> str:
        """What goes to the model for what was typed: a model that summarises is told so, as in its training."""
        template = self.info.template if self.info and self.summarises else "{text}"
        return template.replace("{text}", text)
