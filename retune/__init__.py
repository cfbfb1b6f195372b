"""The loop put together: stages, command line and demo."""
