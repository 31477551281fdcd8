"""One module per schema change. Write new ones by hand, and never edit one that was released."""
