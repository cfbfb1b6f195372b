"""Watch what a line is fed and what it serves."""
