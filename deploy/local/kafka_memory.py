"""The fallback log: librdkafka's in-process broker. Everything in it is lost when it ends.

It exists for machines without Java or Maven and for nothing else. The broker chooses its own port,
so that its address is written to a file: `python -m deploy.local.kafka_memory ADDRESS_FILE`.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from confluent_kafka import Producer

from services.common.topics import TOPICS

CREATE_TIMEOUT_S = 10.0


def serve(address_file: Path) -> None:
    """Run the broker with all topics until SIGTERM or SIGINT."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    # The broker lives as long as the client that it was asked for by.
    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "log_level": 3})
    cluster = client.list_topics(timeout=CREATE_TIMEOUT_S)
    for topic in TOPICS:
        # It has no request to create topics, but makes those that it is asked about.
        client.list_topics(topic.name, timeout=CREATE_TIMEOUT_S)
    broker = next(iter(cluster.brokers.values()))
    address_file.write_text(f"{broker.host}:{broker.port}")
    print(f"memory-only log at {broker.host}:{broker.port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
