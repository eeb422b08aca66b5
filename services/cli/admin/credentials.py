"""`mesh admin providers ...-credential`: the credentials of a provider, which are never shown."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from services.cli.admin.catalog import command, provider_row, providers
from services.cli.admin.common import Options
from services.cli.output import Row, moment, show_one, show_rows
from services.common.pb.mesh.catalog.v1 import catalog_pb2

Credential = Annotated[
    str, Parameter(name="--credential", help="Its id, where the provider has several.")
]
Priority = Annotated[
    int,
    Parameter(validator=Number(gte=0, lte=100), help="Lower ones are used first."),
]
Weight = Annotated[
    int, Parameter(validator=Number(gte=1, lte=1_000), help="Its share beside others as low.")
]


def asked(provider_id: str) -> str:
    """The credential, asked for or read from standard input."""
    if sys.stdin.isatty():
        return getpass.getpass(f"credential of {provider_id}: ")
    return sys.stdin.readline().strip()


def credential_row(one: catalog_pb2.Credential) -> Row:
    settings = one.settings
    return {
        "credential_id": settings.credential_id,
        "label": settings.label,
        "credential": one.masked,
        "priority": settings.priority,
        "weight": settings.weight,
        "enabled": settings.enabled,
        "set_at": moment(one.set_at_ms),
    }


def show(provider: catalog_pb2.Provider, options: Options) -> None:
    """Its credentials."""
    rows = [credential_row(one) for one in provider.credentials]
    show_rows(rows, as_json=options.json, nothing="it has no credential")


@providers.command
def credentials(provider_id: str, *, options: Options = Options()) -> None:
    """The credentials of a provider: first and last characters, priorities, weights."""
    answer = command("ListProviders", catalog_pb2.ListProvidersRequest())
    for one in answer.providers:
        if one.provider_id == provider_id:
            show(one, options)


@providers.command
def set_credential(
    provider_id: str, *, credential: Credential = "", options: Options = Options()
) -> None:
    """Stores a provider's credential, encrypted; it is asked for, or read from standard input."""
    request = catalog_pb2.SetProviderCredentialRequest(
        provider_id=provider_id, credential_id=credential, credential=asked(provider_id)
    )
    show_one(provider_row(command("SetProviderCredential", request)), as_json=options.json)


@providers.command
def add_credential(
    provider_id: str,
    *,
    label: str,
    priority: Priority = 0,
    weight: Weight = 1,
    options: Options = Options(),
) -> None:
    """Stores one more credential beside those that there are."""
    request = catalog_pb2.AddProviderCredentialRequest(
        provider_id=provider_id,
        label=label,
        credential=asked(provider_id),
        priority=priority,
        weight=weight,
    )
    show(command("AddProviderCredential", request), options)


@providers.command
def change_credential(
    provider_id: str,
    *,
    credential: Credential = "",
    label: str = "",
    priority: Priority = 0,
    weight: Weight = 1,
    enabled: bool = True,
    options: Options = Options(),
) -> None:
    """Sets label, priority and weight of a credential; with --no-enabled it is not used."""
    request = catalog_pb2.ChangeProviderCredentialRequest(
        provider_id=provider_id,
        credential_id=credential,
        label=label,
        priority=priority,
        weight=weight,
        enabled=enabled,
    )
    show(command("ChangeProviderCredential", request), options)


@providers.command
def remove_credential(
    provider_id: str, *, credential: Credential = "", options: Options = Options()
) -> None:
    """Forgets a provider's credential; without any its models are no longer served."""
    request = catalog_pb2.RemoveProviderCredentialRequest(
        provider_id=provider_id, credential_id=credential
    )
    show_one(provider_row(command("RemoveProviderCredential", request)), as_json=options.json)
