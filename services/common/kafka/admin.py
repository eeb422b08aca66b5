"""Topics in the log: created from the table of topics and compared with it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from services.common.errors import Unavailable
from services.common.topics import TOPICS, Topic

REPLICAS_MAX = 3
KNOWN_TIMEOUT_S = 30.0


def config_of(topic: Topic, replicas: int) -> dict[str, str]:
    """The settings of a topic in the log."""
    config = {
        "cleanup.policy": topic.cleanup,
        "retention.ms": str(topic.retention_ms),
        "min.insync.replicas": str(2 if replicas >= REPLICAS_MAX else 1),
        "message.timestamp.type": "CreateTime",
    }
    if topic.cleanup == "compact":
        # A tombstone stays for a day, so that a reader that was away that long still sees it.
        config["delete.retention.ms"] = "86400000"
        config["max.compaction.lag.ms"] = "86400000"
    return config


async def create_topics(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> None:
    """Creates what does not exist yet, on up to three replicas as there are brokers.

    Returns once the broker knows them all. Raises Unavailable.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="mesh-admin")
    try:
        await admin.start()
        replicas = min(REPLICAS_MAX, len((await admin.describe_cluster())["brokers"]))
        answer = await admin.create_topics(
            [
                NewTopic(
                    name=topic.name,
                    num_partitions=topic.partitions,
                    replication_factor=replicas,
                    topic_configs=config_of(topic, replicas),
                )
                for topic in topics
            ]
        )
        for name, code, *_ in answer.topic_errors:
            kind = for_code(code)
            if code != 0 and kind is not TopicAlreadyExistsError:
                raise Unavailable(f"Kafka does not create {name}: {kind.__name__}")
        async with asyncio.timeout(KNOWN_TIMEOUT_S):
            while len(await _partitions(admin, topics)) < len(topics):  # noqa: ASYNC110 - the broker knows
                await asyncio.sleep(0.02)
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"Kafka creates no topics: {error}") from error
    finally:
        await admin.close()


async def _partitions(admin: Any, topics: Sequence[Topic]) -> dict[str, int]:
    """The number of partitions of each topic that the broker knows, all of them with a leader."""
    # Any: aiokafka has no type information.
    return {
        entry["topic"]: len(entry["partitions"])
        for entry in await admin.describe_topics([topic.name for topic in topics])
        if not entry["error_code"]
        and all(partition["leader"] >= 0 for partition in entry["partitions"])
    }


async def check_topics(bootstrap: str, topics: Sequence[Topic] = TOPICS) -> list[str]:
    """What in the log differs from the table, one sentence each. Raises Unavailable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, client_id="mesh-admin")
    try:
        await admin.start()
        partitions = await _partitions(admin, topics)
        known = [topic for topic in topics if topic.name in partitions]
        configs = await _configs(admin, known) if known else {}
    except (KafkaError, OSError) as error:
        raise Unavailable(f"Kafka does not describe its topics: {error}") from error
    finally:
        await admin.close()
    found = [f"{topic.name} does not exist" for topic in topics if topic.name not in partitions]
    for topic in known:
        if partitions[topic.name] != topic.partitions:
            found.append(
                f"{topic.name} has {partitions[topic.name]} partitions, not {topic.partitions}"
            )
        for setting in ("cleanup.policy", "retention.ms"):
            actual, wanted = configs[topic.name].get(setting), config_of(topic, 1)[setting]
            if actual != wanted:
                found.append(f"{topic.name} has {setting} {actual}, not {wanted}")
    return found


async def _configs(admin: Any, topics: Sequence[Topic]) -> dict[str, dict[str, str]]:
    # Any: aiokafka has no type information.
    answers = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    )
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for answer in answers
        for resource in answer.resources
    }
