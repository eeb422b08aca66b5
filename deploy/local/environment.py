"""The variables that the children of the stack are given, and the secrets among them."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping

from deploy.local.demo import DEMO_EMAIL
from deploy.local.layout import Layout, Ports, read_env_file, write_env_file

MODEL_PATH = "/v1"
# No secret: the simulator takes every test key, and the real gateway takes none of this form.
SIMULATOR_KEY = "sk_test_simulator"


def payments_are_simulated() -> bool:
    """True where no key of a real payment gateway is set."""
    return not os.environ.get("MESH_BILLING_STRIPE_KEY")


def ensure_secrets(layout: Layout) -> dict[str, str]:
    """The secrets of this data directory, made once."""
    known = read_env_file(layout.secrets)
    made = {
        "MESH_SERVICE_SECRET": secrets.token_urlsafe(36),
        "MESH_USAGE_LIVE_SECRET_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "MESH_CATALOG_CREDENTIAL_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "MESH_BILLING_STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(24)}",
        "MESH_DEMO_PASSWORD": secrets.token_urlsafe(12),
    }
    complete = made | known
    if complete != known:
        write_env_file(layout.secrets, "Made once by `mesh up`; never share them.", complete)
    return complete


def stack_variables(
    ports: Ports, layout: Layout, *, dsns: Mapping[str, str], bootstrap: str
) -> dict[str, str]:
    """Every address of the stack, by the names that services and the command line read."""

    def at(port: int) -> str:
        return f"127.0.0.1:{port}"

    paying = {
        "MESH_BILLING_WEBHOOK_LISTEN": at(ports.billing_webhook),
        "MESH_BILLING_PAYMENT_RETURN_URL": f"http://{at(ports.dashboard)}/billing",
    }
    if payments_are_simulated():
        paying["MESH_BILLING_STRIPE_KEY"] = SIMULATOR_KEY
        paying["MESH_BILLING_STRIPE_URL"] = f"http://{at(ports.stripe_sim)}"
    return paying | {
        "MESH_ENV": os.environ.get("MESH_ENV", "development"),
        "MESH_DATA_DIR": str(layout.data_dir),
        "MESH_KAFKA_BOOTSTRAP": bootstrap,
        "MESH_ACCOUNTS_ADDRESS": at(ports.accounts),
        "MESH_BILLING_ADDRESS": at(ports.billing),
        "MESH_USAGE_ADDRESS": at(ports.usage),
        "MESH_USAGE_LIVE_ADDRESS": at(ports.usage_live),
        "MESH_CATALOG_ADDRESS": at(ports.catalog),
        "MESH_JOBS_ADDRESS": at(ports.jobs),
        "MESH_ACCOUNTS_DSN": dsns["accounts"],
        "MESH_ACCOUNTS_GRPC_LISTEN": at(ports.accounts),
        "MESH_ACCOUNTS_OPS_LISTEN": at(ports.accounts_ops),
        "MESH_BILLING_DSN": dsns["billing"],
        "MESH_BILLING_GRPC_LISTEN": at(ports.billing),
        "MESH_BILLING_OPS_LISTEN": at(ports.billing_ops),
        "MESH_CATALOG_DSN": dsns["catalog"],
        "MESH_CATALOG_GRPC_LISTEN": at(ports.catalog),
        "MESH_CATALOG_OPS_LISTEN": at(ports.catalog_ops),
        "MESH_JOBS_DSN": dsns["jobs"],
        "MESH_JOBS_GRPC_LISTEN": at(ports.jobs),
        "MESH_JOBS_OPS_LISTEN": at(ports.jobs_ops),
        "MESH_LOCAL_MODEL_URL": f"http://{at(ports.model)}{MODEL_PATH}",
        "MESH_USAGE_CLICKHOUSE_DSN": f"chdb://{layout.state / 'usage'}",
        "MESH_USAGE_GRPC_LISTEN": at(ports.usage),
        "MESH_USAGE_OPS_LISTEN": at(ports.usage_ops),
        "MESH_USAGE_SQL_LISTEN": at(ports.usage_sql),
        "MESH_USAGE_LIVE_DSN": dsns["usage"],
        "MESH_USAGE_LIVE_GRPC_LISTEN": at(ports.usage_live),
        "MESH_USAGE_LIVE_OPS_LISTEN": at(ports.usage_live_ops),
        "MESH_GATEWAY_LISTEN": at(ports.gateway),
        "MESH_DASHBOARD_LISTEN": at(ports.dashboard),
        "MESH_DASHBOARD_OPS_LISTEN": at(ports.dashboard_ops),
        "MESH_DASHBOARD_PUBLIC_URL": f"http://{at(ports.dashboard)}",
        # So that the operators' pages can be seen.
        "MESH_DASHBOARD_OPERATORS": DEMO_EMAIL,
        "MESH_DASHBOARD_PUBLIC_API_URL": f"http://{at(ports.gateway)}",
    }


def worker_variables(ports: Ports, layout: Layout, index: int) -> dict[str, str]:
    """What gateway worker `index` has of its own."""
    return {
        "MESH_GATEWAY_OPS_LISTEN": f"127.0.0.1:{ports.gateway_ops + index}",
        "MESH_GATEWAY_WORKER_ID": f"gateway-{index}",
        "MESH_GATEWAY_WAL_DIR": str(layout.state / f"gateway-{index}"),
    }


def child_environment(*variables: Mapping[str, str]) -> dict[str, str]:
    """Our own environment with the stack's variables over it."""
    merged = dict(os.environ)
    # Without it what a Python child prints is held back until its buffer is full.
    merged["PYTHONUNBUFFERED"] = "1"
    merged.setdefault("MESH_LOG_FORMAT", "console")
    for more in variables:
        merged.update(more)
    return merged
