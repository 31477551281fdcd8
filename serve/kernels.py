"""How many compiled kernels this process keeps. Imports no torch, which reads the settings when it first computes."""

import os

KEPT = 64
"""Some ten shapes of a decoding step, of which each takes five kernels."""

# oneDNN's own cache, and that of torch's layer over it (ideep); each keeps 1,024 by default.
SETTINGS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def keep_few_kernels() -> None:
    """Before torch computes anything: bound the caches of kernels, unless the environment says how.

    A server meets every number of rows and every length of prompt, and each needs kernels of its own. With room for
    1,024 of them in each cache, its memory goes on growing for many minutes.
    """
    for name in SETTINGS:
        os.environ.setdefault(name, str(KEPT))
