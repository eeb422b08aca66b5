"""Bytes to commands, results to bytes."""
