"""The jobs' rules: pure."""
