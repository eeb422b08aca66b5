"""Who calls Bedrock: a signature over the request, or a bearer token.

The credential is `access key:secret key` with `:session token` where there is one; one without a
colon is an API key of Bedrock's. The signer is AWS's own (botocore); it only computes.
"""

from __future__ import annotations

import re

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

SERVICE = "bedrock"
REGION_DEFAULT = "us-east-1"
_HOST = re.compile(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.")


def region_of(configured: str, host: str) -> str:
    """The region that is set, or the one that the host's name tells."""
    found = _HOST.search(host)
    return configured or (found[1] if found else REGION_DEFAULT)


def signed(url: str, body: bytes, headers: dict[str, str], *, credential: str, region: str) -> None:
    """Adds what proves who calls to the headers."""
    access_key, _, rest = credential.partition(":")
    if not rest:
        headers["Authorization"] = f"Bearer {credential}"
        return
    secret_key, _, session_token = rest.partition(":")
    request = AWSRequest(method="POST", url=url, data=body, headers=headers)
    keys = ReadOnlyCredentials(access_key, secret_key, session_token or None)
    SigV4Auth(keys, SERVICE, region).add_auth(request)
    headers.update(request.headers.items())
