"""What the panel needs of the other services: open channels and their gRPC stubs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2_grpc,
    invitations_pb2_grpc,
    keys_pb2_grpc,
)
from services.common.pb.mesh.billing.v1 import billing_pb2_grpc
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc, templates_pb2_grpc
from services.common.pb.mesh.usage.v1 import usage_pb2_grpc


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter to one person, in plain text."""

    to: str
    subject: str
    text: str


class Mailer(Protocol):
    """Sends letters."""

    async def send(self, letter: Letter) -> None:
        """Raises Unavailable where it cannot be sent now."""


@dataclass(frozen=True, slots=True)
class Backends:
    """Open channels to the services and their stubs."""

    accounts_channel: GrpcChannel
    billing_channel: GrpcChannel
    usage_channel: GrpcChannel
    usage_live_channel: GrpcChannel
    catalog_channel: GrpcChannel
    accounts: accounts_pb2_grpc.AccountsServiceAsyncStub
    invitations: invitations_pb2_grpc.InvitationsServiceAsyncStub
    keys: keys_pb2_grpc.KeysServiceAsyncStub
    billing: billing_pb2_grpc.BillingServiceAsyncStub
    usage: usage_pb2_grpc.UsageServiceAsyncStub
    catalog: catalog_pb2_grpc.CatalogServiceAsyncStub
    templates: templates_pb2_grpc.TemplatesServiceAsyncStub

    @property
    def channels(self) -> tuple[GrpcChannel, ...]:
        return (
            self.accounts_channel,
            self.billing_channel,
            self.usage_channel,
            self.usage_live_channel,
            self.catalog_channel,
        )
