"""A ledger of memory: what a stage holds throughout, what comes on top at its moments, and the peak."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """``size`` bytes of one thing, and in ``note`` where the number comes from."""

    name: str
    size: int
    note: str = ""


@dataclass(frozen=True)
class Moment:
    """What is there for a part of a step only. Of a stage's moments the largest makes the peak."""

    name: str
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.items)


@dataclass(frozen=True)
class Ledger:
    """One stage's memory, in bytes. ``reserve`` is what the device's libraries and the allocator's gaps take."""

    stage: str
    held: tuple[Item, ...]
    moments: tuple[Moment, ...]
    reserve: Item

    @property
    def worst(self) -> Moment:
        """The moment of the peak."""
        return max(self.moments, key=lambda moment: moment.size)

    @property
    def items(self) -> tuple[Item, ...]:
        """What the peak is made of."""
        return (*self.held, *self.worst.items, self.reserve)

    @property
    def peak(self) -> int:
        """Bytes at the worst moment."""
        return sum(item.size for item in self.items)


def item(name: str, size: float, note: str = "") -> Item:
    """An item of so many bytes, rounded."""
    return Item(name, round(size), note)
