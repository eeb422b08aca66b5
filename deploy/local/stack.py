"""The embedded stack as one object: checks, start, seeding, healing and stop.

`mesh up` is a thin layer over it, and end-to-end tests use it in their own process.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from deploy.local.checks import require_disk, require_modules, require_ports
from deploy.local.demo import Demo, found_again
from deploy.local.environment import (
    ensure_secrets,
    payments_are_simulated,
    stack_variables,
)
from deploy.local.java import find_java
from deploy.local.kafka import KafkaNode, ensure_jars
from deploy.local.layout import Layout, Ports, write_env_file, write_private
from deploy.local.logs import Console
from deploy.local.postgres import PostgresNode, private_socket_dir
from deploy.local.problems import StackProblem
from deploy.local.session import Session, remove_socket_dir
from deploy.local.specs import (
    DATABASES,
    kafka_spec,
    memory_kafka_spec,
    model_spec,
    page_is_built,
    postgres_spec,
    service_specs,
    stripe_sim_spec,
)
from deploy.local.supervisor import ChildSpec, Supervisor
from services.common.topics import TOPICS

KafkaMode = Literal["auto", "node", "memory"]
# A topic's leader is chosen a moment after the broker answers.
TOPICS_ATTEMPTS = 20
TOPICS_RETRY_S = 0.25

FALLBACK_WARNING = (
    "MEMORY ONLY: {reason} Mesh runs on librdkafka's in-process log instead of Apache Kafka: "
    "every account, key, balance and log row of this run is LOST when it stops."
)


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What can be chosen at the start."""

    data_dir: Path = Path(".mesh")
    ports: Ports = field(default_factory=Ports)
    gateway_workers: int = 2
    fresh: bool = False
    kafka: KafkaMode = "auto"
    seed: bool = True
    quiet: bool = False


def jars_or_fallback(
    mode: KafkaMode, console: Console, environment: Mapping[str, str] = os.environ
) -> Path | None:
    """The broker's jars, or None (after a warning) where the memory-only fallback has to do.

    Raises StackProblem where the broker was asked for (`node`) and cannot run.
    """
    if mode == "memory":
        console.warn(FALLBACK_WARNING.format(reason="it was asked for (--kafka memory)."))
        return None
    try:
        find_java(environment)
        return ensure_jars(say=console.say)
    except StackProblem as problem:
        if mode == "node":
            raise
        console.warn(FALLBACK_WARNING.format(reason=str(problem)))
        return None


class Stack:
    """One embedded stack; `start` and `stop` are called once each."""

    def __init__(self, options: StackOptions, console: Console | None = None) -> None:
        self.options = options
        self.console = console if console is not None else Console(quiet=options.quiet)
        self.layout = Layout.prepared(options.data_dir)
        self.demo: Demo | None = None
        self.missing: list[str] = []
        self.supervisor: Supervisor | None = None
        self._session = Session(self.layout)
        self._secrets: dict[str, str] = {}
        self._socket_dir: Path | None = None
        self._ready = False

    async def start(self) -> None:
        """Check, start everything and seed; returns when the stack can be used.

        Raises:
            StackProblem: something is missing or does not start. What was started still has to be
                ended with `stop`.
        """
        left = self._session.acquire()
        if left:
            self.console.say(f"ended what a killed start had left: {', '.join(left)}")
        self._check()
        specs = await asyncio.to_thread(self._store_specs)
        variables = self.variables
        services, self.missing = service_specs(
            self.options.ports,
            self.layout,
            workers=self.options.gateway_workers,
            variables=lambda: variables() | self._secrets,
            topics_are_made=self._topics_are_made(),
        )
        for name in self.missing:
            self.console.warn(f"{name} is left out: the package services.{name} cannot be run")
        if not page_is_built():
            self.console.warn("The control panel's page is not built: run `make setup` (Node 20+).")
        parts = [model_spec(self.options.ports.model)]
        if payments_are_simulated():
            self.console.say("payments are in TEST MODE: a simulator, no money moves")
            parts.append(
                stripe_sim_spec(
                    self.options.ports, self.layout, variables=lambda: dict(self._secrets)
                )
            )
        self.supervisor = Supervisor(
            [*specs, *parts, *services],
            logs=self.layout.logs,
            console=self.console,
            on_change=self._on_change,
        )
        await self.supervisor.start()
        self._write_stack_env()
        if self.options.seed:
            self.demo = await self._demo()
        self._ready = True
        self._on_change()

    async def wait(self, stop: asyncio.Event) -> None:
        """Return when `stop` is set. Raises StackProblem if the stack cannot go on before."""
        assert self.supervisor is not None
        asked = asyncio.create_task(stop.wait())
        try:
            # Any: the two have results of different types, and neither is read here.
            both: set[asyncio.Future[Any]] = {asked, self.supervisor.failed}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if self.supervisor.failed.done():
            raise self.supervisor.failed.result()

    async def stop(self) -> None:
        """End all children, the gateway before billing and the stores last; gives the lock free."""
        self._ready = False
        self.layout.ready.unlink(missing_ok=True)
        try:
            if self.supervisor is not None:
                await self.supervisor.stop()
        finally:
            remove_socket_dir(self._socket_dir, self.layout)
            self._session.release()

    def variables(self) -> dict[str, str]:
        """All addresses, by the names that services and the command line read; no secrets."""
        assert self._socket_dir is not None
        node = PostgresNode(self.layout.state / "postgres", self._socket_dir)
        bootstrap = f"127.0.0.1:{self.options.ports.kafka}"
        if self.layout.memory_only:
            bootstrap = self._address_file.read_text()
        dsns = {name: node.dsn(name) for name in DATABASES}
        return stack_variables(self.options.ports, self.layout, dsns=dsns, bootstrap=bootstrap)

    @property
    def _address_file(self) -> Path:
        return self.layout.state / "kafka.address"

    def _check(self) -> None:
        require_modules()
        require_disk(self.layout.data_dir)
        require_ports(self.options.ports.listeners(self.options.gateway_workers))

    def _store_specs(self) -> list[ChildSpec]:
        jars = jars_or_fallback(self.options.kafka, self.console)
        self.layout = Layout(self.layout.data_dir, memory_only=jars is None)
        if self.options.fresh or jars is None:
            self.layout.wipe(everything=self.options.fresh)
        self.layout.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._secrets = ensure_secrets(self.layout)
        self._socket_dir = private_socket_dir(self.layout.data_dir / "run")
        postgres = PostgresNode(self.layout.state / "postgres", self._socket_dir)
        if jars is None:
            return [memory_kafka_spec(self._address_file), postgres_spec(postgres)]
        ports = self.options.ports
        kafka = KafkaNode(
            self.layout.state / "kafka", ports.kafka, ports.kafka_controller, jars_dir=jars
        )
        return [kafka_spec(kafka, prepare=self._create_topics), postgres_spec(postgres)]

    async def _demo(self) -> Demo | None:
        """The demo account, or None where services are left out that it needs."""
        if {"accounts", "billing", "catalog", "gateway"} & set(self.missing):
            return None
        variables = self.variables() | self._secrets
        known = await found_again(self.layout, variables)
        if known is not None:
            return known
        # Imported late: a later start needs no gRPC, and half a second less.
        from deploy.local.seed import seed

        return await seed(self.layout, variables)

    async def _create_topics(self) -> None:
        """Make the topics, once for each table of topics: the broker keeps them."""
        if not self._topics_are_made():
            await self._create_missing_topics()
            write_private(self._topics_stamp, repr(TOPICS))

    @property
    def _topics_stamp(self) -> Path:
        return self.layout.state / "topics"

    def _topics_are_made(self) -> bool:
        stamp = self._topics_stamp
        return not self.layout.memory_only and stamp.exists() and stamp.read_text() == repr(TOPICS)

    async def _create_missing_topics(self) -> None:
        # Imported late for the same reason.
        from services.common.kafka.admin import create_topics

        for attempt in range(1, TOPICS_ATTEMPTS + 1):
            try:
                await create_topics(f"127.0.0.1:{self.options.ports.kafka}")
                return
            except Exception as error:
                # The client has several kinds of errors for a broker that is still electing.
                if attempt == TOPICS_ATTEMPTS:
                    raise StackProblem(f"The topics cannot be created: {error}") from error
                await asyncio.sleep(TOPICS_RETRY_S)

    def _write_stack_env(self) -> None:
        comment = "Addresses of the embedded stack, written by `mesh up` at each start."
        write_env_file(self.layout.stack, comment, self.variables())

    def _on_change(self) -> None:
        """Keep the files about running processes true."""
        assert self.supervisor is not None
        pids = self.supervisor.pids()
        self._session.record(pids, self._socket_dir)
        if self._ready:
            ready = {
                "mesh": os.getpid(),
                "pids": pids,
                "memory_only": self.layout.memory_only,
                "addresses": self.variables(),
            }
            write_private(self.layout.ready, json.dumps(ready, indent=1))
