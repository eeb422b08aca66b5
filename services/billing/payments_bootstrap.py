"""Puts the parts of payments together by plain calls; without a gateway's key they are idle."""

from __future__ import annotations

from dataclasses import dataclass

import asyncpg

from services.billing.adapters.inbox_postgres import PostgresInbox
from services.billing.adapters.payments_stripe import StripeGateway, stripe_client
from services.billing.adapters.stripe_notices import StripeNotices
from services.billing.config import BillingSettings
from services.billing.domain.payments import TopUpRules
from services.billing.domain.refills import RefillRules
from services.billing.entrypoints.payments_operator import OperatorPaymentsServicer
from services.billing.entrypoints.webhook import WebhookServer
from services.billing.payments.observe import Observer
from services.billing.payments.reconcile import Reconciler
from services.billing.payments.workers import Charger, Inbox
from services.billing.ports import LedgerStore
from services.common.clock import Clock
from services.common.runtime import Component


@dataclass(frozen=True, slots=True)
class Payments:
    """The service, and the components in their order of start."""

    servicer: OperatorPaymentsServicer
    components: list[Component]
    webhook: WebhookServer | None = None


def refill_rules(settings: BillingSettings) -> RefillRules:
    """The rules of refills as the domain takes them."""
    return RefillRules(
        cool_down_ms=round(settings.refill_cool_down_s * 1000),
        backoff_ms=round(settings.refill_backoff_s * 1000),
        failures_max=settings.refill_failures_max,
    )


def compose_payments(
    store: LedgerStore, pool: asyncpg.Pool, clock: Clock, *, settings: BillingSettings
) -> Payments:
    """The parts, by the settings."""
    box = PostgresInbox(pool)
    top_up_rules = TopUpRules(
        settings.top_up_least_usd * 1_000_000_000, settings.top_up_most_usd * 1_000_000_000
    )
    key = settings.stripe_key.get_secret_value()
    if not key:
        servicer = OperatorPaymentsServicer(
            store, pool, clock, gateway=None, rules=top_up_rules, box=box, inbox=None,
            reconciler=None,
        )  # fmt: skip
        return Payments(servicer, [])
    gateway = StripeGateway(
        stripe_client(key, base_url=settings.stripe_url, timeout_s=settings.stripe_timeout_s),
        return_url=settings.payment_return_url,
        is_test=settings.is_test_gateway,
        tax=settings.stripe_tax,
    )
    observer = Observer(store, gateway, clock, rules=refill_rules(settings))
    inbox = Inbox(box, observer, clock, every_s=settings.payments_every_s)
    charger = Charger(observer, clock, every_s=settings.payments_every_s)
    reconciler = Reconciler(
        inbox,
        observer,
        clock,
        every_s=settings.reconcile_every_s,
        compare_every_s=settings.payments_compare_every_s,
        quiet_s=settings.reconcile_every_s,
    )
    webhook = WebhookServer(
        settings.webhook_listen,
        inbox,
        clock,
        reader=StripeNotices(
            [
                settings.stripe_webhook_secret.get_secret_value(),
                settings.stripe_webhook_secret_old.get_secret_value(),
            ],
            tolerance_s=settings.webhook_tolerance_s,
        ),
    )
    servicer = OperatorPaymentsServicer(
        store, pool, clock, gateway=gateway, rules=top_up_rules, box=box, inbox=inbox,
        reconciler=reconciler,
    )  # fmt: skip
    components = [
        Component("gateway", stop=gateway.close),
        Component("inbox", run=inbox.run),
        Component("charger", run=charger.run),
        Component("reconciler", run=reconciler.run),
        Component("webhook", webhook.start, stop=webhook.stop),
    ]
    return Payments(servicer, components, webhook)
