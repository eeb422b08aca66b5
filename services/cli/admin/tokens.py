"""`mesh admin token`: a service token for tools that speak gRPC by themselves."""

from __future__ import annotations

from services.cli.admin.common import Count
from services.cli.context import environment, operator, token_signer


def token(*, account: str = "", ttl_s: Count = 3600) -> None:
    """Prints a token for `grpcurl -H "authorization: Bearer ..."`, acting for this account id.

    Parameters
    ----------
    account
        The account id (`acc_...`) whose data the calls are about; empty for calls about none.
    ttl_s
        For how many seconds it is good.
    """
    print(token_signer(environment()).mint(operator(account), ttl_s=ttl_s))
