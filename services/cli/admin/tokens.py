"""`mesh admin token`: a service token for tools that speak gRPC by themselves."""

from __future__ import annotations

from services.cli.context import CliError, environment, operator
from services.common.security.tokens import TokenSigner


def token(*, account: str = "", ttl_s: int = 3600) -> None:
    """Prints a token for `grpcurl -H "authorization: Bearer ..."`, acting for this account id.

    Parameters
    ----------
    account
        The account id (`acc_...`) whose data the calls are about; empty for calls about none.
    ttl_s
        For how many seconds it is good.
    """
    secret = environment().get("MESH_SERVICE_SECRET")
    if not secret:
        raise CliError("MESH_SERVICE_SECRET is not set: start the stack with `mesh up`, or set it")
    print(TokenSigner(secret, "cli").mint(operator(account), ttl_s=ttl_s))
