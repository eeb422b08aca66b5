"""`mesh admin keys`: API keys of an account."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from services.cli.admin.common import AccountOption, CountOrNone, Options, call, run
from services.cli.context import Services
from services.cli.output import Row, moment, show_one, show_rows, usd
from services.common.errors import InvalidArgument
from services.common.money import INT64_MAX, nanousd_from_field, nanousd_from_usd
from services.common.pb.mesh.accounts.v1 import keys_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.common.pb.mesh.events.v1 import accounts_pb2

app = App(name="keys", help="API keys: create, list, change, suspend, resume, rotate.")
Window = Literal["lifetime", "day", "week", "month", "rolling_30_days"]
NO_LIMIT = "none"


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class KeyOptions:
    """What may be set on a key; `none` takes a limit away."""

    label: str | None = None
    spend_cap: Annotated[str | None, Parameter(help="In USD, or `none`.")] = None
    spend_cap_window: Window | None = None
    rpm: Annotated[str | None, Parameter(help="Requests a minute, or `none`.")] = None
    rpd: Annotated[str | None, Parameter(help="Requests a day, or `none`.")] = None
    tpm: Annotated[str | None, Parameter(help="Tokens a minute, or `none`.")] = None
    default_model: str | None = None
    default_params: Annotated[str | None, Parameter(help="A JSON object.")] = None
    routing_policy: Annotated[
        str | None, Parameter(help="A JSON object: retry, fallback, budget; empty: the usual way.")
    ] = None
    allowed_models: Annotated[str | None, Parameter(help="Comma-separated; empty: all.")] = None
    api_version: Annotated[str | None, Parameter(help="`YYYY-MM`, or `none`.")] = None
    response_cache: bool | None = None
    content_stored: Annotated[
        bool | None, Parameter(help="Store prompts and answers, where the operator allows it.")
    ] = None
    team: Annotated[str | None, Parameter(help="A team's id, or `none`.")] = None
    model_limits: Annotated[
        list[str] | None,
        Parameter(help="`<model>=cap:<USD>,window:day,rpm:<n>,rpd:<n>,tpm:<n>`; `none`: none."),
    ] = None


def whole(name: str, value: str) -> int:
    """A limit. Raises InvalidArgument where it is no whole number of 0 to 64 bits."""
    try:
        number = int(value)
    except ValueError as error:
        raise InvalidArgument.of(name, f"not a whole number: {value!r}") from error
    if not 0 <= number <= INT64_MAX:
        raise InvalidArgument.of(name, f"not between 0 and {INT64_MAX}: {value}")
    return number


def model_limits_of(text: str) -> accounts_pb2.ModelLimits:
    """The limits of one model, as the option spells them. Raises InvalidArgument."""
    model_id, _, rest = text.rpartition("=")
    found = accounts_pb2.ModelLimits(model_id=model_id)
    for part in rest.split(","):
        name, _, value = part.strip().partition(":")
        try:
            if name == "cap":
                found.limits.spend_cap_nanousd = nanousd_from_usd(value)
            elif name == "window":
                window = common_pb2.CapWindow.Value(f"CAP_WINDOW_{value.upper()}")
                found.limits.spend_cap_window = window
            elif name in ("rpm", "rpd", "tpm"):
                setattr(found.limits, f"{name}_limit", whole("model_limits", value))
            else:
                raise ValueError(f"there is no limit {name!r}")
        except ValueError as error:
            raise InvalidArgument.of("model_limits", f"{text!r}: {error}") from error
    return found


def settings_of(options: KeyOptions) -> tuple[accounts_pb2.KeySettings, list[str]]:
    """The settings that were given, and the names of their fields (the update mask)."""
    settings, mask = accounts_pb2.KeySettings(), list[str]()
    if options.label is not None:
        settings.label, mask = options.label, [*mask, "label"]
    if options.spend_cap is not None:
        mask.append("spend_cap_nanousd")
        if options.spend_cap != NO_LIMIT:
            settings.spend_cap_nanousd = nanousd_from_field("spend_cap", options.spend_cap)
    if options.spend_cap_window is not None:
        name = f"CAP_WINDOW_{options.spend_cap_window.upper()}"
        settings.spend_cap_window = common_pb2.CapWindow.Value(name)
        mask.append("spend_cap_window")
    for field in ("rpm", "rpd", "tpm"):
        value = getattr(options, field)
        if value is not None:
            mask.append(f"{field}_limit")
            if value != NO_LIMIT:
                setattr(settings, f"{field}_limit", whole(field, value))
    if options.default_model is not None:
        settings.default_model, mask = options.default_model, [*mask, "default_model"]
    if options.default_params is not None:
        settings.default_params_json, mask = options.default_params, [*mask, "default_params_json"]
    if options.routing_policy is not None:
        settings.routing_policy_json, mask = options.routing_policy, [*mask, "routing_policy_json"]
    if options.allowed_models is not None:
        names = [name.strip() for name in options.allowed_models.split(",") if name.strip()]
        settings.allowed_models.extend(names)
        mask.append("allowed_models")
    if options.api_version is not None:
        settings.api_version = "" if options.api_version == NO_LIMIT else options.api_version
        mask.append("api_version")
    if options.response_cache is not None:
        settings.response_cache_disabled = not options.response_cache
        mask.append("response_cache_disabled")
    if options.content_stored is not None:
        settings.content_stored = options.content_stored
        mask.append("content_stored")
    if options.team is not None:
        settings.team_id = "" if options.team == NO_LIMIT else options.team
        mask.append("team_id")
    if options.model_limits is not None:
        given = [text for text in options.model_limits if text != NO_LIMIT]
        settings.model_limits.extend(model_limits_of(text) for text in given)
        mask.append("model_limits")
    return settings, mask


def key_row(key: keys_pb2.Key) -> Row:
    settings = key.settings
    window = common_pb2.CapWindow.Name(settings.spend_cap_window)
    capped = settings.HasField("spend_cap_nanousd")
    return {
        "key_id": key.key_id,
        "label": settings.label,
        "key": key.masked_key,
        "suspended": key.suspended,
        "spend_cap_usd": usd(settings.spend_cap_nanousd) if capped else None,
        "window": window.removeprefix("CAP_WINDOW_").lower() if capped else None,
        "team": settings.team_id,
        "default_model": settings.default_model,
        "allowed_models": list(settings.allowed_models),
        "expires_at": moment(settings.expires_at_ms),
        "created_at": moment(key.created_at_ms),
    }


def command(account: str | None, name: str, request: Any) -> Any:  # Any: protobuf messages
    """Calls the KeysService method `name` for that account."""

    async def work(found: Services) -> Any:  # Any: a protobuf message
        account_id = await found.account_id(account)
        method = getattr(found.keys, name)
        return await call(found, "accounts", method=method, request=request, account=account_id)

    return run(work)


@app.command(name="list")
def list_keys(*, account: AccountOption = None, options: Options = Options()) -> None:
    """The account's keys, newest first."""
    page = common_pb2.PageRequest(page_size=200)
    answer = command(account, "ListKeys", keys_pb2.ListKeysRequest(page=page))
    show_rows([key_row(key) for key in answer.keys], as_json=options.json)


@app.command
def create(
    *,
    account: AccountOption = None,
    settings: KeyOptions = KeyOptions(),
    options: Options = Options(),
) -> None:
    """A new key; its secret is shown this once."""
    wanted, _ = settings_of(settings)
    answer = command(account, "CreateKey", keys_pb2.CreateKeyRequest(settings=wanted))
    show_one({"secret": answer.plain_key, **key_row(answer.key)}, as_json=options.json)


@app.command
def update(
    key_id: str,
    *,
    account: AccountOption = None,
    settings: KeyOptions = KeyOptions(),
    options: Options = Options(),
) -> None:
    """Changes what is named and nothing else; in force everywhere within a second."""
    wanted, mask = settings_of(settings)
    if not mask:
        raise InvalidArgument("name at least one setting to change (see --help)")
    request = keys_pb2.UpdateKeyRequest(key_id=key_id, settings=wanted, update_mask=mask)
    show_one(key_row(command(account, "UpdateKey", request)), as_json=options.json)


@app.command
def suspend(key_id: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """Refuses the key everywhere within a second."""
    answer = command(account, "SuspendKey", keys_pb2.SuspendKeyRequest(key_id=key_id))
    show_one(key_row(answer), as_json=options.json)


@app.command
def resume(key_id: str, *, account: AccountOption = None, options: Options = Options()) -> None:
    """Ends a suspension."""
    answer = command(account, "ResumeKey", keys_pb2.ResumeKeyRequest(key_id=key_id))
    show_one(key_row(answer), as_json=options.json)


@app.command
def rotate(
    key_id: str,
    *,
    grace_s: Annotated[
        CountOrNone, Parameter(help="How long the old secret goes on working.")
    ] = 86_400,
    account: AccountOption = None,
    options: Options = Options(),
) -> None:
    """A new secret for the same key, shown this once."""
    request = keys_pb2.RotateKeyRequest(key_id=key_id, grace_s=grace_s)
    answer = command(account, "RotateKey", request)
    show_one({"secret": answer.plain_key, **key_row(answer.key)}, as_json=options.json)
