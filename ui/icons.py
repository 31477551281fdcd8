"""The few small pictures on buttons, as inline SVG: nothing is fetched, and they take the text's colour."""

_PATHS = {
    "up": "M7 10v11H3V10zM7 10l4-8a2.6 2.6 0 0 1 2.6 2.6V8h5.6a2 2 0 0 1 2 2.3l-1.4 8.7a2 2 0 0 1-2 1.7H7",
    "down": "M7 14V3H3v11zM7 14l4 8a2.6 2.6 0 0 0 2.6-2.6V16h5.6a2 2 0 0 0 2-2.3L19.8 5a2 2 0 0 0-2-1.7H7",
    "pencil": "M4 20l1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19zM14.5 6.5l3 3",
    "again": "M20 5v5h-5M4 19v-5h5M19 10a7.5 7.5 0 0 0-13-3.5L4 8.5M5 14a7.5 7.5 0 0 0 13 3.5l2-2",
    "undo": "M4 8h10a6 6 0 0 1 0 12H8M4 8l4-4M4 8l4 4",
    "trash": "M4 6h16M9 6V4h6v2M6 6l1 14h10l1-14M10 10v6M14 10v6",
    "link": "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
    "close": "M6 6l12 12M18 6L6 18",
    "screen": "M3 4h18v12H3zM8 20h8M12 16v4",
}


def icon(name: str) -> str:
    """The picture called ``name``; hidden from screen readers, whose words are the button's label."""
    return (
        '<svg class="sw-icon" viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" '
        'stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">'
        f'<path d="{_PATHS[name]}"/></svg>'
    )
