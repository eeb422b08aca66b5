"""Provider credentials from the catalogue over gRPC."""

from __future__ import annotations

from services.common.grpc import GrpcChannel
from services.common.ids import ProviderId
from services.common.pb.mesh.catalog.v1 import catalog_pb2 as pb
from services.common.pb.mesh.catalog.v1 import catalog_pb2_grpc
from services.gateway.state.credentials import Credential


class GrpcCredentials:
    """Implements `CredentialSource`."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = catalog_pb2_grpc.CatalogServiceStub(channel.channel())

    async def fetch(self, provider_id: ProviderId, credential_id: str) -> Credential:
        """See `CredentialSource.fetch`."""
        answer = await self._channel.call(
            self._stub.GetProviderCredential,
            pb.GetProviderCredentialRequest(provider_id=provider_id, credential_id=credential_id),
        )
        return Credential(answer.credential_version, answer.credential)
