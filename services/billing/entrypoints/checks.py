"""What every billing method checks of its input before it becomes a command."""

from __future__ import annotations

import base64
import binascii

from services.billing import views
from services.common.errors import InvalidArgument
from services.common.grpc import principal
from services.common.ids import AccountId

ID_LENGTH_MAX = 200
TEXT_LENGTH_MAX = 1_000
EMAIL_LENGTH_MAX = 254
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 500


def checked_id(field: str, value: str) -> str:
    """The id. Raises InvalidArgument where it is empty, too long, or not storable."""
    if not value:
        raise InvalidArgument.of(field, "is required")
    return checked_text(field, value, length_max=ID_LENGTH_MAX)


def checked_text(field: str, value: str, *, length_max: int = TEXT_LENGTH_MAX) -> str:
    """The text. Raises InvalidArgument where it is too long or has a NUL, as no text column may."""
    if len(value) > length_max:
        raise InvalidArgument.of(field, f"is longer than {length_max} characters")
    if "\0" in value:
        raise InvalidArgument.of(field, "contains a NUL character")
    return value


def checked_email(field: str, value: str) -> str:
    """An address of e-mail, or "" for none. Raises InvalidArgument where it is no address."""
    checked_text(field, value, length_max=EMAIL_LENGTH_MAX)
    name, _, domain = value.rpartition("@")
    if value and not (name and domain and value.isprintable() and " " not in value):
        raise InvalidArgument.of(field, "is not an address of e-mail")
    return value


def checked_amount(field: str, value: int, *, least: int) -> int:
    """Nano-dollars of at least `least`. Raises InvalidArgument."""
    if value < least:
        raise InvalidArgument.of(field, f"must be at least {least}")
    return value


def callers_account() -> AccountId:
    """The account that the call is about. Raises InvalidArgument where the operator named none."""
    account_id = principal().account_id
    return AccountId(checked_id("account_id", account_id))


def page_size(asked: int) -> int:
    """The size of a page. Raises InvalidArgument above the maximum."""
    if asked > PAGE_SIZE_MAX:
        raise InvalidArgument.of("page.page_size", f"must be at most {PAGE_SIZE_MAX}")
    return asked or PAGE_SIZE_DEFAULT


def token_from_text(text: str) -> str:
    """An opaque page token."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def text_from_token(token: str) -> str:
    """What a page token stands for, "" for none. Raises InvalidArgument."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return checked_text("page.page_token", raw.decode(), length_max=ID_LENGTH_MAX)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument.of("page.page_token", "is not a page token") from error


def version_from_token(token: str) -> int:
    """Before which version of a stream a page begins. Raises InvalidArgument."""
    text = text_from_token(token)
    if not text:
        return views.VERSION_MAX
    if not text.isdecimal() or int(text) > views.VERSION_MAX:
        raise InvalidArgument.of("page.page_token", "is not a page token")
    return int(text)
