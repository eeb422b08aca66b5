"""Keys and sessions by gRPC at the accounts service."""

from __future__ import annotations

from collections.abc import Collection

import orjson

from services.common.grpc.channel import GrpcChannel
from services.common.pb.mesh.accounts.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    limits_pb2,
    limits_pb2_grpc,
)
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from services.common.security.tokens import Principal
from services.gateway.key_admin import KeyFields, KeyLimits, LimitValues, ManagedKey

KEYS_SHOWN_MAX = 200
# Names of fields where the service's differ.
_THEIRS = {"default_params": "default_params_json"}


class GrpcSessions:
    """`Sessions` at accounts."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._stub = accounts_pb2_grpc.AccountsServiceStub(channel.channel())

    async def holder(self, token: str) -> Principal:
        request = accounts_pb2.ResolveSessionRequest(session_token=token)
        found = (await self._channel.call(self._stub.ResolveSession, request)).principal
        return Principal(
            kind="user",
            account_id=found.account_id,
            user_id=found.user_id,
            role=common_pb2.Role.Name(found.role).removeprefix("ROLE_").lower(),
        )


class GrpcKeyAdmin:
    """`KeyAdmin` at accounts."""

    def __init__(self, channel: GrpcChannel) -> None:
        self._channel = channel
        self._keys = keys_pb2_grpc.KeysServiceStub(channel.channel())
        self._limits = limits_pb2_grpc.LimitsServiceStub(channel.channel())

    async def create(self, principal: Principal, fields: KeyFields) -> tuple[ManagedKey, str]:
        request = keys_pb2.CreateKeyRequest(settings=_settings_to_pb(fields))
        answer = await self._channel.call(self._keys.CreateKey, request, principal=principal)
        return _key_from_pb(answer.key), answer.plain_key

    async def all(self, principal: Principal) -> list[ManagedKey]:
        request = keys_pb2.ListKeysRequest(page=common_pb2.PageRequest(page_size=KEYS_SHOWN_MAX))
        answer = await self._channel.call(self._keys.ListKeys, request, principal=principal)
        return [_key_from_pb(key) for key in answer.keys]

    async def get(self, principal: Principal, key_id: str) -> ManagedKey:
        request = keys_pb2.GetKeyRequest(key_id=key_id)
        return _key_from_pb(
            await self._channel.call(self._keys.GetKey, request, principal=principal)
        )

    async def update(
        self, principal: Principal, key_id: str, fields: KeyFields, *, changed: Collection[str]
    ) -> ManagedKey:
        request = keys_pb2.UpdateKeyRequest(
            key_id=key_id,
            settings=_settings_to_pb(fields),
            update_mask=[_THEIRS.get(name, name) for name in sorted(changed)],
        )
        return _key_from_pb(
            await self._channel.call(self._keys.UpdateKey, request, principal=principal)
        )

    async def suspend(self, principal: Principal, key_id: str) -> ManagedKey:
        request = keys_pb2.SuspendKeyRequest(key_id=key_id)
        return _key_from_pb(
            await self._channel.call(self._keys.SuspendKey, request, principal=principal)
        )

    async def resume(self, principal: Principal, key_id: str) -> ManagedKey:
        request = keys_pb2.ResumeKeyRequest(key_id=key_id)
        return _key_from_pb(
            await self._channel.call(self._keys.ResumeKey, request, principal=principal)
        )

    async def limits(self, principal: Principal, key_id: str) -> KeyLimits:
        request = limits_pb2.GetKeyLimitsRequest(key_id=key_id)
        answer = await self._channel.call(self._limits.GetKeyLimits, request, principal=principal)
        return KeyLimits(
            own=_limits_from_pb(answer.limits),
            scopes={one.scope: _limits_from_pb(one.limits) for one in answer.scopes},
        )


def _settings_to_pb(fields: KeyFields) -> events_pb2.KeySettings:
    limits = fields.limits
    params = orjson.dumps(dict(fields.default_params)).decode() if fields.default_params else ""
    return events_pb2.KeySettings(
        label=fields.label,
        spend_cap_nanousd=limits.spend_cap_nanousd,
        spend_cap_window=common_pb2.CapWindow.Value(
            f"CAP_WINDOW_{limits.spend_cap_window.upper()}"
        ),
        rpm_limit=limits.rpm_limit,
        rpd_limit=limits.rpd_limit,
        tpm_limit=limits.tpm_limit,
        default_model=fields.default_model,
        default_params_json=params,
        allowed_models=fields.allowed_models,
        expires_at_ms=fields.expires_at_ms,
        team_id=fields.team_id,
        api_version=fields.api_version,
        response_cache_disabled=fields.response_cache_disabled,
        content_stored=fields.content_stored,
    )


def _limits_from_pb(message: events_pb2.Limits | events_pb2.KeySettings) -> LimitValues:
    window = common_pb2.CapWindow.Name(message.spend_cap_window).removeprefix("CAP_WINDOW_")
    return LimitValues(
        spend_cap_nanousd=message.spend_cap_nanousd
        if message.HasField("spend_cap_nanousd")
        else None,
        spend_cap_window="lifetime" if window == "UNSPECIFIED" else window.lower(),
        rpm_limit=message.rpm_limit if message.HasField("rpm_limit") else None,
        rpd_limit=message.rpd_limit if message.HasField("rpd_limit") else None,
        tpm_limit=message.tpm_limit if message.HasField("tpm_limit") else None,
    )


def _key_from_pb(key: keys_pb2.Key) -> ManagedKey:
    settings = key.settings
    return ManagedKey(
        key_id=key.key_id,
        masked_key=key.masked_key,
        fields=KeyFields(
            label=settings.label,
            limits=_limits_from_pb(settings),
            default_model=settings.default_model,
            default_params=orjson.loads(settings.default_params_json or "{}"),
            allowed_models=tuple(settings.allowed_models),
            expires_at_ms=settings.expires_at_ms,
            team_id=settings.team_id,
            api_version=settings.api_version,
            response_cache_disabled=settings.response_cache_disabled,
            content_stored=settings.content_stored,
        ),
        suspended=key.suspended,
        created_at_ms=key.created_at_ms,
        updated_at_ms=key.updated_at_ms,
        created_by=key.created_by,
    )
