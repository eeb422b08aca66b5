"""Formats in which callers speak to the one pipeline: each in and out of chat completions."""
