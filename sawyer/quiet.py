"""Libraries' notes to developers, kept away from users: at the start of a command, and of each process it starts."""

import logging
import os
import sys
import warnings


def quieten() -> None:
    """Silence these notes for the whole process; errors and our own progress still show."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    if not sys.stderr.isatty():  # in a log file the libraries' bars are lines of noise
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
