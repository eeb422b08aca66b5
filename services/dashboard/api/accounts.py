"""Log-in, sign-up, the session, and API keys."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from services.common.money import nanousd_from_field
from services.common.pb.mesh.accounts.v1 import accounts_pb2, keys_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2 as events_pb2
from services.dashboard.api import models
from services.dashboard.api.parts import limits_pb
from services.dashboard.api.session import (
    COOKIE,
    BackendsDep,
    PathId,
    Session,
    SessionDep,
    SettingsDep,
    csrf_token,
    set_cookie,
)
from services.dashboard.api.staff import is_staff, refuse_staff_address
from services.dashboard.api.translate import key_out
from services.dashboard.config import DashboardSettings
from services.dashboard.ports import Backends

router = APIRouter(tags=["accounts"])
KEYS_SHOWN_MAX = 200
USER_AGENT_LENGTH_MAX = 200


def session_out(found: Session, known: DashboardSettings) -> models.SessionOut:
    return models.SessionOut(
        email=found.principal.email,
        name=found.principal.name,
        account_id=found.principal.account_id,
        account_name=found.principal.account_name,
        role=found.role,
        csrf_token=csrf_token(known.service_secret.get_secret_value(), found.token),
        public_api_url=known.public_api_url,
        is_operator=is_staff(found, known),
        content_stored=known.content_stored,
    )


def started(
    answer: accounts_pb2.SessionResponse,
    response: Response,
    known: DashboardSettings,
    *,
    now_ms: int,
) -> models.SessionOut:
    age_s = max(1, (answer.expires_at_ms - now_ms) // 1000)
    set_cookie(response, answer.session_token, max_age_s=age_s, secure=known.secure_cookies)
    return session_out(Session(answer.session_token, answer.principal), known)


def user_agent(request: Request) -> str:
    return request.headers.get("user-agent", "")[:USER_AGENT_LENGTH_MAX]


@router.post("/session")
async def log_in(
    body: models.LogIn,
    request: Request,
    *,
    response: Response,
    found: BackendsDep,
    known: SettingsDep,
) -> models.SessionOut:
    """Starts a session."""
    answer = await found.accounts_channel.call(
        found.accounts.LogIn,
        accounts_pb2.LogInRequest(
            email=body.email, password=body.password, user_agent=user_agent(request)
        ),
    )
    return started(answer, response, known, now_ms=request.app.state.clock.now_ms())


@router.post("/sign-up", status_code=201)
async def sign_up(
    body: models.SignUp,
    request: Request,
    *,
    response: Response,
    found: BackendsDep,
    known: SettingsDep,
) -> models.SessionOut:
    """Makes a user with an account of their own and logs them in."""
    refuse_staff_address(body.email, known)
    answer = await found.accounts_channel.call(
        found.accounts.SignUp,
        accounts_pb2.SignUpRequest(
            email=body.email, password=body.password, name=body.name, user_agent=user_agent(request)
        ),
    )
    return started(answer, response, known, now_ms=request.app.state.clock.now_ms())


@router.get("/session")
async def get_session(found: SessionDep, known: SettingsDep) -> models.SessionOut:
    """Who is logged in."""
    return session_out(found, known)


@router.delete("/session", status_code=204)
async def log_out(found: SessionDep, response: Response, backends: BackendsDep) -> None:
    """Ends the session."""
    request = accounts_pb2.LogOutRequest(session_token=found.token)
    await backends.accounts_channel.call(backends.accounts.LogOut, request)
    response.delete_cookie(COOKIE, path="/")


def settings_pb(body: models.KeySettingsIn | models.KeyChange) -> events_pb2.KeySettings:
    window = body.spend_cap_window or "lifetime"
    return events_pb2.KeySettings(
        label=body.label or "",
        spend_cap_nanousd=None
        if body.spend_cap_usd is None
        else nanousd_from_field("spend_cap_usd", body.spend_cap_usd),
        spend_cap_window=common_pb2.CapWindow.Value(f"CAP_WINDOW_{window.upper()}"),
        rpm_limit=body.rpm_limit,
        rpd_limit=body.rpd_limit,
        tpm_limit=body.tpm_limit,
        default_model=body.default_model or "",
        default_params_json=body.default_params_json or "",
        allowed_models=body.allowed_models or [],
        expires_at_ms=body.expires_at_ms or 0,
        team_id=body.team_id or "",
        content_stored=bool(body.content_stored),
        model_limits=[
            events_pb2.ModelLimits(model_id=one.model_id, limits=limits_pb(one))
            for one in body.model_limits or []
        ],
    )


async def spend_by_key(
    backends: Backends, session: Session, key_ids: list[str]
) -> dict[str, billing_pb2.KeySpend]:
    answer = await backends.billing_channel.call(
        backends.billing.ListKeySpend,
        billing_pb2.ListKeySpendRequest(key_ids=key_ids),
        principal=session.caller,
    )
    return {spend.key_id: spend for spend in answer.keys}


async def key_with_spend(backends: Backends, session: Session, key: keys_pb2.Key) -> models.KeyOut:
    spend = await spend_by_key(backends, session, [key.key_id])
    return key_out(key, spend.get(key.key_id))


@router.get("/keys")
async def list_keys(session: SessionDep, backends: BackendsDep) -> list[models.KeyOut]:
    """The account's keys, newest first, with what each has spent."""
    answer = await backends.accounts_channel.call(
        backends.keys.ListKeys,
        keys_pb2.ListKeysRequest(page=common_pb2.PageRequest(page_size=KEYS_SHOWN_MAX)),
        principal=session.caller,
    )
    spend = await spend_by_key(backends, session, [])
    return [key_out(key, spend.get(key.key_id)) for key in answer.keys]


@router.post("/keys", status_code=201)
async def create_key(
    body: models.KeySettingsIn, session: SessionDep, backends: BackendsDep
) -> models.KeyCreated:
    """A new key; its secret is in this answer and nowhere else."""
    answer = await backends.accounts_channel.call(
        backends.keys.CreateKey,
        keys_pb2.CreateKeyRequest(settings=settings_pb(body)),
        principal=session.caller,
    )
    return models.KeyCreated(key=key_out(answer.key, None), secret=answer.plain_key)


FIELD_NAMES = {"spend_cap_usd": "spend_cap_nanousd"}


@router.patch("/keys/{key_id}")
async def change_key(
    key_id: PathId, body: models.KeyChange, *, session: SessionDep, backends: BackendsDep
) -> models.KeyOut:
    """Changes what the body names."""
    mask = [FIELD_NAMES.get(name, name) for name in sorted(body.model_fields_set)]
    request = keys_pb2.UpdateKeyRequest(key_id=key_id, settings=settings_pb(body), update_mask=mask)
    key = await backends.accounts_channel.call(
        backends.keys.UpdateKey, request, principal=session.caller
    )
    return await key_with_spend(backends, session, key)


@router.post("/keys/{key_id}/suspend")
async def suspend_key(key_id: PathId, session: SessionDep, backends: BackendsDep) -> models.KeyOut:
    """Refuses the key, everywhere, within a second."""
    key = await backends.accounts_channel.call(
        backends.keys.SuspendKey,
        keys_pb2.SuspendKeyRequest(key_id=key_id),
        principal=session.caller,
    )
    return await key_with_spend(backends, session, key)


@router.post("/keys/{key_id}/resume")
async def resume_key(key_id: PathId, session: SessionDep, backends: BackendsDep) -> models.KeyOut:
    """Ends a suspension."""
    key = await backends.accounts_channel.call(
        backends.keys.ResumeKey,
        keys_pb2.ResumeKeyRequest(key_id=key_id),
        principal=session.caller,
    )
    return await key_with_spend(backends, session, key)


@router.post("/keys/{key_id}/rotate")
async def rotate_key(
    key_id: PathId, session: SessionDep, backends: BackendsDep
) -> models.KeyCreated:
    """A new secret; the old one works for one more day."""
    answer = await backends.accounts_channel.call(
        backends.keys.RotateKey,
        keys_pb2.RotateKeyRequest(key_id=key_id, grace_s=86_400),
        principal=session.caller,
    )
    return models.KeyCreated(
        key=await key_with_spend(backends, session, answer.key), secret=answer.plain_key
    )
