"""What can stop the embedded stack: always one sentence that says what to do."""

from __future__ import annotations


class StackProblem(Exception):
    """A reason why the stack cannot start; its text is shown to the user as it is."""
