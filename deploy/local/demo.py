"""What a newcomer is given: the demo account's key and log-in, and whether they are still good."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from deploy.local.layout import Layout, read_env_file, write_env_file
from deploy.local.probes import http_status
from deploy.local.problems import StackProblem

DEMO_EMAIL = "demo@mesh.local"
MODEL_PRICED = "local/smollm2-135m"

# A new key is known to every gateway worker within a second; this allows for a slow machine.
KEY_WAIT_S = 20.0
KEY_POLL_S = 0.05
# Connections are spread over the workers at random.
KEY_OK_IN_A_ROW = 6


@dataclass(frozen=True, slots=True)
class Demo:
    """What one needs to make the first request."""

    base_url: str
    api_key: str
    dashboard_url: str
    email: str
    password: str


def demo_of(variables: Mapping[str, str], api_key: str) -> Demo:
    """The demo account of the stack that has these addresses and secrets."""
    return Demo(
        base_url=f"http://{variables['MESH_GATEWAY_LISTEN']}",
        api_key=api_key,
        dashboard_url=f"http://{variables['MESH_DASHBOARD_LISTEN']}",
        email=DEMO_EMAIL,
        password=variables["MESH_DEMO_PASSWORD"],
    )


def write_demo(layout: Layout, demo: Demo) -> None:
    """Keep it in `demo.env`, as variables."""
    values = {
        "MESH_BASE_URL": demo.base_url,
        "MESH_API_KEY": demo.api_key,
        "MESH_DASHBOARD_URL": demo.dashboard_url,
        "MESH_DEMO_EMAIL": demo.email,
        "MESH_DEMO_PASSWORD": demo.password,
    }
    write_env_file(layout.demo, "The demo account of this data directory.", values)


def read_demo(layout: Layout) -> Demo | None:
    """What an earlier start kept, or None."""
    known = read_env_file(layout.demo)
    if not known.get("MESH_API_KEY"):
        return None
    return Demo(
        base_url=known.get("MESH_BASE_URL", ""),
        api_key=known["MESH_API_KEY"],
        dashboard_url=known.get("MESH_DASHBOARD_URL", ""),
        email=known.get("MESH_DEMO_EMAIL", ""),
        password=known.get("MESH_DEMO_PASSWORD", ""),
    )


async def found_again(layout: Layout, variables: Mapping[str, str]) -> Demo | None:
    """The demo account of an earlier start, if its key still works; its addresses are renewed."""
    known = read_demo(layout)
    if known is None or known.password != variables["MESH_DEMO_PASSWORD"]:
        return None
    if not await key_works(gateway_port(variables), known.api_key):
        return None
    demo = demo_of(variables, known.api_key)
    write_demo(layout, demo)
    return demo


def gateway_port(variables: Mapping[str, str]) -> int:
    """Where the gateway listens."""
    return int(variables["MESH_GATEWAY_LISTEN"].rpartition(":")[2])


async def key_works(port: int, key: str) -> bool:
    """Whether the gateway lists its models to this key."""
    return await http_status(port, "/v1/models", f"Authorization: Bearer {key}\r\n") == 200


async def until_key_works(port: int, key: str) -> None:
    """Wait until every worker knows the key. Raises StackProblem after a time."""
    in_a_row = 0
    loop = asyncio.get_running_loop()
    deadline = loop.time() + KEY_WAIT_S
    while in_a_row < KEY_OK_IN_A_ROW:
        in_a_row = in_a_row + 1 if await key_works(port, key) else 0
        if loop.time() > deadline:
            raise StackProblem("The gateway does not take the demo key: see the log gateway-0.log.")
        if in_a_row == 0:
            await asyncio.sleep(KEY_POLL_S)
