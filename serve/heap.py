"""The server's heap: what is loaded once is not looked through again and again for garbage."""

import gc


def settle_heap() -> None:
    """Exempt all objects there are from Python's cyclic collections.

    The modules of torch and transformers are some 600,000 objects that stay for ever. Every full collection reads them
    all with every thread stopped: half a second and more (measured), a quarter of the time of a server that stores
    votes and a stall in every stream. What is loaded later is collected as ever; models hold no cycles and go by
    themselves.
    """
    gc.collect()
    gc.freeze()
