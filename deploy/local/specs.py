"""The children of the embedded stack: what is started after what, and how each is ended."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from deploy.local.environment import child_environment, worker_variables
from deploy.local.kafka import KafkaNode
from deploy.local.layout import ROOT, Layout, Ports
from deploy.local.postgres import STOP_SIGNAL, PostgresNode
from deploy.local.probes import http_ok, in_thread
from deploy.local.supervisor import ChildSpec

DATABASES = ("accounts", "billing", "catalog", "jobs", "usage")
STORES = ("kafka", "postgres")
SERVICES = (
    "accounts", "catalog", "billing", "jobs", "usage", "usage.live", "gateway", "dashboard"
)  # fmt: skip

# A later number ends earlier: first what takes requests, last the stores.
_STOP_ORDER = {
    "dashboard": 6, "gateway": 5, "usage": 4, "usage-live": 4, "billing": 3, "catalog": 2,
    "accounts": 2, "jobs": 2, "model": 1, "stripe-sim": 2, "postgres": 0, "kafka": 0,
}  # fmt: skip
_SERVICE_GRACE_S = 15.0
_GATEWAY_GRACE_S = 30.0

Variables = Callable[[], Mapping[str, str]]


def service_exists(name: str) -> bool:
    """Whether the package of a service can be run."""
    try:
        return importlib.util.find_spec(f"services.{name}.__main__") is not None
    except ModuleNotFoundError:
        return False


def page_is_built() -> bool:
    """Whether the control panel has its page; without it the dashboard is never ready."""
    return (ROOT / "services" / "dashboard" / "web" / "dist" / "index.html").exists()


def kafka_spec(
    node: KafkaNode, *, prepare: Callable[[], Awaitable[None]] | None = None
) -> ChildSpec:
    """The broker; `prepare` makes the topics."""
    return ChildSpec(
        name="kafka",
        command=node.command,
        ready=in_thread(node.answers),
        prepare=prepare,
        stop_order=_STOP_ORDER["kafka"],
        stop_grace_s=20.0,
        death_signal=signal.SIGTERM,
        start_timeout_s=90.0,
        on_stopped=node.keep_class_archive,
    )


def memory_kafka_spec(address_file: Path) -> ChildSpec:
    """The fallback. It cannot heal: with it everything is gone, so that its end ends the stack."""

    def command() -> Sequence[str]:
        return [sys.executable, "-m", "deploy.local.kafka_memory", str(address_file)]

    def written() -> bool:
        return address_file.exists() and address_file.stat().st_size > 0

    return ChildSpec(
        name="kafka",
        command=command,
        ready=in_thread(written),
        environment=child_environment,
        cwd=ROOT,
        stop_order=_STOP_ORDER["kafka"],
        restart=False,
    )


def postgres_spec(node: PostgresNode) -> ChildSpec:
    """The database server; makes the services' databases once it is up."""

    async def databases() -> None:
        await node.ensure_databases(*DATABASES)

    return ChildSpec(
        name="postgres",
        command=node.command,
        ready=in_thread(node.answers),
        # PostgreSQL must not depend on a folder that its user cannot enter.
        cwd=Path("/"),
        prepare=databases,
        stop_order=_STOP_ORDER["postgres"],
        stop_signal=STOP_SIGNAL,
        stop_grace_s=20.0,
        death_signal=STOP_SIGNAL,
    )


def model_spec(port: int) -> ChildSpec:
    """The local model behind its OpenAI-compatible server."""
    return ChildSpec(
        name="model",
        command=lambda: [sys.executable, "-m", "deploy.local.model_server", "--port", str(port)],
        ready=http_ok(port, "/health"),
        environment=child_environment,
        cwd=ROOT,
        stop_order=_STOP_ORDER["model"],
    )


def stripe_sim_spec(ports: Ports, layout: Layout, *, variables: Variables) -> ChildSpec:
    """The payment simulator, for machines without a payment gateway's key."""
    state = layout.state / "stripe-sim.json"

    def command() -> Sequence[str]:
        webhook = f"http://127.0.0.1:{ports.billing_webhook}/webhooks/stripe"
        return [
            sys.executable, "-m", "deploy.local.stripe_sim", "--port", str(ports.stripe_sim),
            "--webhook", webhook, "--state", str(state),
        ]  # fmt: skip

    return ChildSpec(
        name="stripe-sim",
        command=command,
        ready=http_ok(ports.stripe_sim, "/healthz"),
        environment=lambda: child_environment(variables()),
        cwd=ROOT,
        stop_order=_STOP_ORDER["stripe-sim"],
    )


def service_spec(
    service: str,
    ops_port: int,
    *,
    environment: Variables,
    after: tuple[str, ...] = STORES,
    name: str | None = None,
) -> ChildSpec:
    """A service of ours: `python -m services.<service>`, ready when its /readyz says so."""
    path = "/healthz" if service == "dashboard" and not page_is_built() else "/readyz"
    return ChildSpec(
        name=name or service,
        command=lambda: [sys.executable, "-m", f"services.{service}"],
        ready=http_ok(ops_port, path),
        environment=environment,
        cwd=ROOT,
        after=after,
        stop_order=_STOP_ORDER[service.replace(".", "-")],
        stop_grace_s=_GATEWAY_GRACE_S if service == "gateway" else _SERVICE_GRACE_S,
    )


def service_specs(
    ports: Ports, layout: Layout, *, workers: int, variables: Variables, topics_are_made: bool
) -> tuple[list[ChildSpec], list[str]]:
    """The services that exist, and the names of those that do not.

    `variables` is asked at each start, because the fallback log's address is known late.
    """

    # These load for seconds before they need the log, so that they may load while it starts.
    early = ("postgres",) if topics_are_made else STORES

    def environment() -> Mapping[str, str]:
        return child_environment(variables())

    def worker_environment(index: int) -> Mapping[str, str]:
        return child_environment(variables(), worker_variables(ports, layout, index))

    specs: list[ChildSpec] = []
    missing: list[str] = []
    for service in SERVICES:
        if not service_exists(service):
            missing.append(service)
        elif service == "gateway":
            for index in range(workers):
                own = partial(worker_environment, index)
                port = ports.gateway_ops + index
                name = f"gateway-{index}"
                specs.append(service_spec(service, port, environment=own, after=early, name=name))
        else:
            name = service.replace(".", "-")
            port = getattr(ports, f"{service.replace('.', '_')}_ops")
            after = early if service in ("dashboard", "jobs") else STORES
            spec = service_spec(service, port, environment=environment, after=after, name=name)
            specs.append(spec)
    return specs, missing
