"""The board: what the votes say, drawn so that it can be read from the back row, every figure with its n."""
