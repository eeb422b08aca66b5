"""The checklist of a server that the official SDKs work with, in the order of the specification."""

from __future__ import annotations

from tests.checklist.account import ACCOUNT
from tests.checklist.answers import ANSWERS
from tests.checklist.breaks import Item
from tests.checklist.catalogue import MODELS, TEMPLATES
from tests.checklist.errors import ERRORS
from tests.checklist.further import FURTHER
from tests.checklist.requests import REQUESTS
from tests.checklist.transport import TRANSPORT

ITEMS: tuple[Item, ...] = (
    *TRANSPORT, *ERRORS, *REQUESTS, *ANSWERS, *MODELS, *TEMPLATES, *ACCOUNT, *FURTHER,
)  # fmt: skip
