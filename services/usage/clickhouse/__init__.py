"""Numbered SQL migrations of the request log, applied in order and once each."""
