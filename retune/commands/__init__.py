"""The commands of `retune` by subject; `retune.cli` lists them."""
