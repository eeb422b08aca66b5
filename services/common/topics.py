"""The table of topics: the one place from which they are created, documented and checked.

`docs/events.md` is generated from it; `mesh topics create` makes them. Cleanup `delete` keeps by
time, `compact` keeps the newest message of each key, and retention -1 keeps for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DAY_MS = 86_400_000
FOREVER_MS = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: what keys its messages, how they are kept, who writes and who reads them."""

    name: str
    key: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_ms: int
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    event_types: tuple[str, ...]
    description: str


USAGE = Topic(
    "mesh.usage.v1", "account_id", 6, "delete", 30 * DAY_MS,
    ("gateway",), ("billing", "usage"),
    ("gateway.UsageRecorded",),
    "One message for each request of an authenticated caller, after it ended.",
)  # fmt: skip
CONTENT = Topic(
    "mesh.content.v1", "account_id", 6, "delete", 3 * DAY_MS,
    ("gateway",), ("usage",),
    ("gateway.ContentRecorded",),
    "Prompts and answers of the keys whose owners want them stored, where the operator allows it.",
)  # fmt: skip
LEDGER = Topic(
    "mesh.ledger.v1", "account_id", 6, "delete", FOREVER_MS,
    ("billing",), ("usage", "audit", "rebuilds"),
    (
        "billing.TransactionPosted", "billing.GrantOpened", "billing.GrantClosed",
        "billing.GrantExpired", "billing.GrantResolved", "billing.KeyCapSet",
        "billing.GrantWrittenOff", "billing.LedgerSealed", "billing.GrantRenewed",
        "billing.ScopeCapSet",
        "billing.TopUpStarted", "billing.TopUpChanged", "billing.CustomerLinked",
        "billing.CardSaved", "billing.PaymentReceived", "billing.RefundRequested",
        "billing.RefundChanged", "billing.DisputeChanged", "billing.RefillConfigured",
        "billing.RefillStarted", "billing.RefillChanged", "billing.PromoGranted",
        "billing.PromoUsed", "billing.PromoCounted", "billing.PromoExpired",
    ),
    "Every event of the ledger, in the order of each account's journal, and its hourly seals.",
)  # fmt: skip
BALANCES = Topic(
    "mesh.balances.v1", "account_id", 6, "compact", FOREVER_MS,
    ("billing",), ("gateway", "dashboard"),
    ("billing.BalanceState",),
    "The newest balance of each account.",
)  # fmt: skip
ACCOUNTS = Topic(
    "mesh.accounts.v1", "account_id", 6, "delete", FOREVER_MS,
    ("accounts",), ("usage", "rebuilds"),
    (
        "accounts.AccountOpened", "accounts.AccountSuspended", "accounts.AccountResumed",
        "accounts.OperatorActed",
        "accounts.UserSignedUp", "accounts.PasswordChanged", "accounts.IdentityLinked",
        "accounts.MemberAdded",
        "accounts.MemberRoleChanged", "accounts.MemberRemoved", "accounts.SessionStarted",
        "accounts.SessionEnded", "accounts.KeyIssued", "accounts.KeyChanged",
        "accounts.KeySuspended", "accounts.KeyResumed", "accounts.KeyRotated",
        "accounts.TeamCreated", "accounts.TeamRenamed", "accounts.TeamRemoved",
        "accounts.TeamMemberAdded", "accounts.TeamMemberRemoved", "accounts.LimitsSet",
        "accounts.InvitationMade", "accounts.InvitationRenewed", "accounts.InvitationRevoked",
        "accounts.InvitationAccepted", "accounts.AdminKeyIssued", "accounts.AdminKeyRotated",
        "accounts.AdminKeyRevoked",
    ),
    "Every event of accounts, users, members, teams, limits, invitations, sessions and keys.",
)  # fmt: skip
KEYS = Topic(
    "mesh.keys.v1", "SHA-256 of the key", 6, "compact", FOREVER_MS,
    ("accounts",), ("gateway", "billing"),
    ("accounts.KeyState",),
    "What a gateway needs to admit a request and billing to bind a grant, by key hash.",
)  # fmt: skip
CATALOG = Topic(
    "mesh.catalog.v1", "aggregate id", 3, "delete", FOREVER_MS,
    ("catalog",), ("rebuilds",),
    (
        "catalog.ProviderRegistered", "catalog.ProviderChanged", "catalog.ProviderCredentialSet",
        "catalog.ProviderCredentialAdded", "catalog.ProviderCredentialChanged",
        "catalog.ProviderCredentialRemoved", "catalog.ModelRegistered", "catalog.ModelChanged",
        "catalog.PricePublished", "catalog.TemplateCreated", "catalog.TemplateChanged",
        "catalog.TemplateDeleted",
    ),
    "Every event of providers, models, prices and templates.",
)  # fmt: skip
MODELS = Topic(
    "mesh.models.v1", "model:<id> or provider:<id>", 3, "compact", FOREVER_MS,
    ("catalog",), ("gateway",),
    ("catalog.ModelState", "catalog.ProviderState"),
    "What a gateway needs to route and price, by model and provider.",
)  # fmt: skip
TEMPLATES = Topic(
    "mesh.templates.v1", "template id", 3, "compact", FOREVER_MS,
    ("catalog",), ("gateway",),
    ("catalog.TemplateState",),
    "What a gateway needs to render a prompt template, by its id.",
)  # fmt: skip
BILLING_DEAD = Topic(
    "mesh.billing.dead.v1", "as source", 1, "delete", 365 * DAY_MS,
    ("billing",), ("operator tools",),
    ("billing.DeadLetter", "billing.DeadLetterSentAgain", "billing.DeadLetterDiscarded"),
    "Messages that billing could not take, and what was decided about them.",
)  # fmt: skip
USAGE_DEAD = Topic(
    "mesh.usage.dead.v1", "as source", 1, "delete", 365 * DAY_MS,
    ("usage",), ("operator tools",),
    ("usage.DeadLetter", "usage.DeadLetterSentAgain", "usage.DeadLetterDiscarded"),
    "Messages that the request log could not take, and what was decided about them.",
)  # fmt: skip

TOPICS: tuple[Topic, ...] = (
    USAGE, CONTENT, LEDGER, BALANCES, ACCOUNTS, KEYS, CATALOG, MODELS, TEMPLATES, BILLING_DEAD,
    USAGE_DEAD,
)  # fmt: skip
