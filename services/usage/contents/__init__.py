"""Prompts and answers, where they are stored at all."""
