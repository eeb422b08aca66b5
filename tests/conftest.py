"""What all tests share: the real engines, and which tests are fast."""

from __future__ import annotations

# Not used here: loaded before any test, because its plugin would otherwise load it at the very
# end of a run, where the interpreter (3.11) can fail in the middle of a compilation.
import hypothesis
import pytest

from tests.fixtures.engines import kafka_bootstrap, make_topic, own_kafka, postgres_dsn

__all__ = ["hypothesis", "kafka_bootstrap", "make_topic", "own_kafka", "postgres_dsn"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests are fast by their folder."""
    for item in items:
        if "unit" in item.path.parts:
            item.add_marker(pytest.mark.fast)
