"""gRPC plumbing: the server and channel with authentication, policies, deadlines, errors and
traces.
"""

from services.common.grpc.auth import Access, identity, principal
from services.common.grpc.channel import GrpcChannel
from services.common.grpc.errors import app_error_from_rpc
from services.common.grpc.server import GrpcServer
from services.common.security.tokens import CallIdentity, Principal, TokenSigner, TokenVerifier

__all__ = [
    "Access",
    "CallIdentity",
    "GrpcChannel",
    "GrpcServer",
    "Principal",
    "TokenSigner",
    "TokenVerifier",
    "app_error_from_rpc",
    "identity",
    "principal",
]
