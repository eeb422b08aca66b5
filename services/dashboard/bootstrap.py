"""Composes the dashboard: channels, the application, its HTTP server."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from fastapi import FastAPI

from services.common.clock import SystemClock
from services.common.config import HostPort
from services.common.grpc.channel import GrpcChannel
from services.common.kafka import TableReader
from services.common.ops import OpsServer
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2_grpc,
    invitations_pb2_grpc,
    keys_pb2_grpc,
)
from services.common.pb.mesh.billing.v1 import billing_pb2_grpc
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc, templates_pb2_grpc
from services.common.pb.mesh.usage.v1 import usage_pb2_grpc
from services.common.runtime import Component
from services.common.security.tokens import TokenSigner
from services.common.topics import BALANCES
from services.dashboard.api.app import make_app
from services.dashboard.config import DashboardSettings
from services.dashboard.live_balances import LiveBalances
from services.dashboard.mail import mailer_of
from services.dashboard.playground import Playground
from services.dashboard.ports import Backends

GRACE_S = 5


def open_backends(settings: DashboardSettings) -> Backends:
    """Channels to the services; each connects when it is first used."""
    signer = TokenSigner(settings.service_secret.get_secret_value(), "dashboard")

    def channel(address: HostPort) -> GrpcChannel:
        return GrpcChannel(address, signer, default_timeout_s=settings.call_timeout_s)

    accounts = channel(settings.accounts_address)
    billing = channel(settings.billing_address)
    usage = channel(settings.usage_address)
    usage_live = channel(settings.usage_live_address)
    catalog = channel(settings.catalog_address)
    return Backends(
        accounts_channel=accounts,
        billing_channel=billing,
        usage_channel=usage,
        usage_live_channel=usage_live,
        catalog_channel=catalog,
        accounts=accounts_pb2_grpc.AccountsServiceStub(accounts.channel()),
        invitations=invitations_pb2_grpc.InvitationsServiceStub(accounts.channel()),
        keys=keys_pb2_grpc.KeysServiceStub(accounts.channel()),
        billing=billing_pb2_grpc.BillingServiceStub(billing.channel()),
        usage=usage_pb2_grpc.UsageServiceStub(usage.channel()),
        catalog=catalog_pb2_grpc.CatalogServiceStub(catalog.channel()),
        templates=templates_pb2_grpc.TemplatesServiceStub(catalog.channel()),
    )


class WebServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the process's runtime has them."""

    def __init__(self, settings: DashboardSettings, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._listen = settings.listen
        self._serving: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Returns when it listens. Raises OSError where the address is taken."""
        # Bound here, because Uvicorn would end the process over a taken address.
        host = self._listen.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, self._listen.port), family=family)
        self.port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._serve(sockets=[listener]))
        while not self.started:
            done, _ = await asyncio.wait({self._serving}, timeout=0.01)
            if done:
                raise OSError(f"cannot serve on {self._listen}")

    async def run_until_stopped(self) -> None:
        """Lasts as long as it serves."""
        assert self._serving is not None
        await asyncio.shield(self._serving)

    async def stop(self) -> None:
        """No new connections; open ones get a few seconds."""
        self.should_exit = True
        if self._serving is not None:
            await self._serving


def components(settings: DashboardSettings) -> list[Component]:
    """The parts of the process, in the order in which they start."""
    backends = open_backends(settings)
    balances = LiveBalances()
    reader = TableReader(
        bootstrap=settings.kafka_bootstrap, topic=BALANCES, on_message=balances.apply
    )
    clock = SystemClock()
    api_url = settings.gateway_url or settings.public_api_url
    playground = Playground(backends, clock, api_url=api_url)
    mailer = mailer_of(settings.smtp_url.get_secret_value(), settings.mail_from)
    app = make_app(
        settings, backends, clock, balances=balances, playground=playground, mailer=mailer
    )
    server = WebServer(settings, app)
    index = settings.web_dir / "index.html"
    ops = OpsServer(
        settings.ops_listen, {"page built": index.is_file, "serving": lambda: server.started}
    )

    async def close_channels() -> None:
        for channel in backends.channels:
            await channel.close()

    return [
        Component("channels", stop=close_channels),
        # Without the log the pages still ask for the balance; they only learn of changes later.
        Component("balances", run=reader.run),
        Component("playground", start=playground.start, stop=playground.stop),
        Component("web", start=server.start, run=server.run_until_stopped, stop=server.stop),
        Component("ops", start=ops.start, stop=ops.stop),
    ]
