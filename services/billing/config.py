"""Billing's settings, read from the environment with the prefix MESH_BILLING_."""

from __future__ import annotations

from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.billing.domain.grants import GrantRules
from services.billing.domain.quotas import QuotaRules
from services.common.config import CommonSettings, HostPort


class BillingSettings(CommonSettings):
    """What a billing process reads; times are seconds."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_BILLING_", frozen=True, extra="ignore", validate_default=True
    )

    dsn: SecretStr = Field(description="PostgreSQL database of billing.")
    grpc_listen: HostPort = Field(HostPort("127.0.0.1:8202"), description="gRPC address.")
    ops_listen: HostPort = Field(
        HostPort("127.0.0.1:8212"), description="Health, readiness and metrics."
    )
    pool_size: int = Field(16, ge=4, le=200, description="Connections to PostgreSQL at most.")
    unit_timeout_s: float = Field(
        4.0, gt=0, le=60, description="Seconds that the transaction of a call may last."
    )
    batch_timeout_s: float = Field(
        30.0, gt=0, le=600, description="Seconds that the transaction of one batch may last."
    )
    grant_ttl_s: float = Field(120.0, ge=1, le=86_400, description="Seconds that a grant lives.")
    grant_grace_s: float = Field(
        30.0, ge=0, le=86_400, description="Seconds after which a lapsed grant is unresolved."
    )
    grant_share_max: int = Field(
        8, ge=1, le=1_000, description="A grant takes at most one part in so many of the available."
    )
    grant_retry_after_s: float = Field(
        1.0, gt=0, le=60, description="When to ask again where money is held by others."
    )
    grant_group_linger_s: float = Field(
        0.0, ge=0, le=0.1, description="Seconds a group of grant calls waits to fill."
    )
    grant_group_max: int = Field(256, ge=1, le=4_096, description="Grant calls in one transaction.")
    grant_waiting_max: int = Field(8_192, ge=1, description="Grant calls that may wait.")
    key_fence_s: float = Field(
        0.5, ge=0, le=5, description="Seconds to wait for the version of a key's settings."
    )
    key_fence_poll_s: float = Field(0.025, gt=0, le=1, description="How often to look for it.")
    quota_ttl_s: float = Field(
        15.0, ge=1, le=60, description="Seconds for which a lease of requests may be used."
    )
    quota_share_max: int = Field(
        8, ge=1, le=1_000, description="A lease takes at most one part in so many of what is left."
    )
    quota_retry_after_s: float = Field(
        0.05, gt=0, le=5, description="When to ask again where other workers hold the quota."
    )
    quota_prune_every_s: float = Field(
        60.0, gt=0, le=3_600, description="Pause of the sweeper of windows that are over."
    )
    quota_prune_batch_max: int = Field(
        5_000, ge=1, le=100_000, description="Rows that it removes at once."
    )
    expiry_every_s: float = Field(3.0, gt=0, le=600, description="Pause of the expiry sweeper.")
    expiry_batch_max: int = Field(500, ge=1, le=10_000, description="Grants it takes at once.")
    grant_write_off_after_s: float = Field(
        604_800.0, ge=60, description="Seconds after which an unresolved grant is written off."
    )
    seal_delay_s: float = Field(
        900.0,
        ge=0,
        le=86_400,
        description="Seconds after the end of an hour until it is sealed; longer than any batch.",
    )
    seal_every_s: float = Field(
        60.0, gt=0, le=3_600, description="How often to look for an hour to seal."
    )
    usage_batch_max: int = Field(1_000, ge=1, le=10_000, description="Usage events in one batch.")
    usage_linger_s: float = Field(0.02, ge=0, le=1, description="Seconds a batch may wait to fill.")
    keys_batch_max: int = Field(500, ge=1, le=10_000, description="Key states in one batch.")
    stripe_key: SecretStr = Field(
        SecretStr(""), description="Stripe's secret key; without one nobody can pay."
    )
    stripe_url: str = Field(
        "", description="Where Stripe's API is; empty: the real one. Set for the simulator."
    )
    stripe_timeout_s: float = Field(20.0, gt=0, le=80, description="Seconds that a call may last.")
    stripe_tax: bool = Field(False, description="Let Stripe compute and add tax to top-ups.")
    stripe_webhook_secret: SecretStr = Field(
        SecretStr(""), description="What Stripe signs its notices with."
    )
    stripe_webhook_secret_old: SecretStr = Field(
        SecretStr(""), description="The secret before, while it is being rotated."
    )
    webhook_listen: HostPort = Field(
        HostPort("127.0.0.1:8222"), description="Where notices of the payment gateway come in."
    )
    webhook_tolerance_s: float = Field(
        300.0, gt=0, le=3_600, description="Seconds that a notice's signature may be off our clock."
    )
    payment_return_url: str = Field(
        "http://127.0.0.1:8090/billing", description="Where a person comes back to after paying."
    )
    top_up_least_usd: int = Field(5, ge=1, le=1_000, description="Dollars that are paid at least.")
    top_up_most_usd: int = Field(
        10_000, ge=1, le=900_000, description="Dollars that are paid at most at once."
    )
    refill_cool_down_s: float = Field(
        60.0, ge=1, le=86_400, description="Seconds from one automatic refill to the next."
    )
    refill_backoff_s: float = Field(
        3_600.0, ge=1, le=604_800,
        description="Seconds after a declined refill; four times as long after each further one.",
    )  # fmt: skip
    refill_failures_max: int = Field(
        3, ge=1, le=10, description="Declined refills in a row after which they are switched off."
    )
    payments_every_s: float = Field(
        1.0, gt=0, le=600, description="How often to look for refills and notices to work on."
    )
    reconcile_every_s: float = Field(
        120.0, gt=0, le=86_400, description="How often to fetch what notices did not bring."
    )
    payments_compare_every_s: float = Field(
        86_400.0, ge=60, le=604_800, description="How often to compare with Stripe's movements."
    )
    dead_letter_limit: int = Field(
        100, ge=0, description="Messages put aside within an hour before the consumer stops."
    )

    @model_validator(mode="after")
    def _hours_are_over_when_sealed(self) -> Self:
        if self.seal_delay_s < max(self.unit_timeout_s, self.batch_timeout_s):
            raise ValueError(
                "seal_delay_s must be at least unit_timeout_s and batch_timeout_s: an hour may be"
                " sealed only when nothing can be written into it any more"
            )
        return self

    @model_validator(mode="after")
    def _payments_are_real_in_production(self) -> Self:
        key = self.stripe_key.get_secret_value()
        if self.is_production and (self.stripe_url or key.startswith(("sk_test_", "rk_test_"))):
            raise ValueError("stripe_key: the payment gateway is in test mode")
        if key and not self.stripe_webhook_secret.get_secret_value():
            raise ValueError("stripe_webhook_secret: must be set where stripe_key is")
        if self.top_up_least_usd > self.top_up_most_usd:
            raise ValueError("top_up_least_usd: is more than top_up_most_usd")
        return self

    @property
    def is_test_gateway(self) -> bool:
        """True where payments move no money."""
        key = self.stripe_key.get_secret_value()
        return bool(self.stripe_url) or key.startswith(("sk_test_", "rk_test_"))

    @property
    def grant_rules(self) -> GrantRules:
        """The rules of grants as the domain takes them."""
        return GrantRules(
            ttl_ms=round(self.grant_ttl_s * 1000),
            grace_ms=round(self.grant_grace_s * 1000),
            share_max=self.grant_share_max,
            retry_after_ms=round(self.grant_retry_after_s * 1000),
            write_off_after_ms=round(self.grant_write_off_after_s * 1000),
        )

    @property
    def quota_rules(self) -> QuotaRules:
        """The rules of quotas as the domain takes them."""
        return QuotaRules(
            ttl_ms=round(self.quota_ttl_s * 1000),
            share_max=self.quota_share_max,
            retry_after_ms=round(self.quota_retry_after_s * 1000),
        )
