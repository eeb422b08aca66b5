"""Pictures of every page of the panel, from a stack of its own with some life in it.

`python -m tests.e2e.screenshots docs/screenshots` (or `make screenshots`): each page light and
dark, 1440 and 390 pixels wide, empty, loading, full and in error, as WebP. With `operator` behind
it (`make screenshots ONLY=operator`) those of the operators' pages alone.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from tests.e2e.chromium import seen_by
from tests.e2e.letters import of_another_topic, put_aside
from tests.e2e.stack import Stack, free_ports_from
from tests.fixtures.waiting import eventually_async

LOCAL = "local/smollm2-135m"
KEYS: dict[str, dict[str, object]] = {
    "Production": {"spend_cap_usd": "250", "spend_cap_window": "month", "rpm_limit": 600},
    "Search service": {"spend_cap_usd": "0.004", "spend_cap_window": "day"},
    "Notebook of Ada": {"rpm_limit": 60, "default_model": LOCAL},
}
SAYINGS = (
    "Say hello.", "Name three rivers.", "What is a ledger?", "Write one line about the sea.",
    "Count to five.", "Who was Ada Lovelace?",
)  # fmt: skip
QUALITY = 70


class Person:
    """The demo account's owner, over the panel's API and the gateway's."""

    def __init__(self, client: aiohttp.ClientSession, demo: dict[str, str]) -> None:
        self._client, self._demo, self._csrf = client, demo, ""

    async def call(self, method: str, path: str, body: object = None) -> Any:  # Any: JSON
        url = f"{self._demo['MESH_DASHBOARD_URL']}/api{path}"
        headers = {"x-mesh-csrf": self._csrf} if self._csrf else {}
        async with self._client.request(method, url, json=body, headers=headers) as answer:
            assert answer.status < 300, (path, await answer.text())
            return await answer.json()

    async def log_in(self) -> None:
        body = {
            "email": self._demo["MESH_DEMO_EMAIL"], "password": self._demo["MESH_DEMO_PASSWORD"],
        }  # fmt: skip
        self._csrf = (await self.call("POST", "/session", body))["csrf_token"]

    async def ask(self, key: str, text: str, model: str) -> str:
        """One request; its id."""
        body = {
            "model": model, "max_tokens": 24, "messages": [{"role": "user", "content": text}],
        }  # fmt: skip
        async with self._client.post(
            f"{self._demo['MESH_BASE_URL']}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {key}"},
        ) as answer:
            await answer.read()
            return answer.headers["x-request-id"]


async def furnish(person: Person) -> tuple[str, str]:
    """Keys, requests, a template, a team and a limit; gives a request and the template."""
    await person.log_in()
    secrets = [
        (await person.call("POST", "/keys", {"label": label, "content_stored": True, **settings}))[
            "secret"
        ]
        for label, settings in KEYS.items()
    ]
    await asyncio.sleep(2)  # a key is in force everywhere within a second
    request_id = ""
    for turn in range(48):
        model = ("no/such-model", f"{LOCAL}:free", LOCAL, LOCAL)[turn % 4]
        secret = secrets[turn % 5 % len(secrets)]
        found = await person.ask(secret, SAYINGS[turn % len(SAYINGS)], model)
        request_id = found if turn % 4 == 2 and turn < 4 else request_id
    team = await person.call("POST", "/teams", {"name": "Search"})
    limits = {
        "scope": f"team:{team['team_id']}", "spend_cap_usd": "100",
        "spend_cap_window": "month", "rpm_limit": 1200,
    }  # fmt: skip
    await person.call("PUT", "/limits", limits)
    content = {
        "name": "Poet", "description": "One line about something.", "model": LOCAL,
        "system": "You write about {{ topic }}. Be brief.",
        "messages": [{"role": "user", "content": "One line for {{ name }}."}],
        "params": {"max_tokens": 32, "temperature": 0.4}, "variables": ["topic", "name"],
    }  # fmt: skip
    template = await person.call("POST", "/templates", content)
    changed = {**content, "system": "You write about {{ topic }}. One line, no rhyme."}
    await person.call("PUT", f"/templates/{template['template_id']}", changed)
    return request_id, str(template["template_id"])


async def furnish_for_staff(person: Person, stack: Stack) -> None:
    """Credentials of a provider, one of them switched off; letters, one of which is discarded."""
    path = "/operator/providers/openai/credentials"
    for label, priority, weight in (("Production", 0, 3), ("Batch jobs", 0, 1), ("Spare", 1, 1)):
        body = {
            "label": label, "priority": priority, "weight": weight,
            "credential": f"sk-proj-picture-of-{label.replace(' ', '-')}-0123456789",
        }  # fmt: skip
        found = await person.call("POST", path, body)
    spare = found["credentials"][-1]
    off = {"label": "Spare", "priority": 1, "enabled": False}
    await person.call("PUT", f"{path}/{spare['credential_id']}", off)
    await put_aside(
        stack, b"not an event", b"\x00\x01\x02", of_another_topic("rsk_01KDVDQ3G0AAAAAAAAAAAAAA01")
    )

    async def all_are_there() -> bool:
        return bool((await person.call("GET", "/operator/dead-letters"))["open"] == 6)

    await eventually_async(all_are_there)
    reason = {"reason": "Sent by hand, to see what happens."}
    await person.call("POST", "/operator/dead-letters/usage/0/discard", reason)
    await person.call("POST", "/operator/dead-letters/billing/2/retry")


def shown(name: str) -> bool:
    """Of the states in which there is little to see, two pictures of each page are kept."""
    other = any(f"-{state}-" in name for state in ("empty", "loading", "error"))
    return not other or name.endswith(("-wide-light", "-phone-dark"))


def keep(source: Path, target: Path, only: str) -> int:
    """The pictures as WebP, in place of those that were there; how many bytes."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{only}*.webp"):
        old.unlink()
    for picture in sorted(source.glob("*.png")):
        if not shown(picture.stem):
            continue
        with Image.open(picture) as image:
            image.save(target / f"{picture.stem}.webp", quality=QUALITY, method=6)
    return sum(file.stat().st_size for file in target.iterdir())


async def take(folder: Path, only: str) -> Any:  # Any: JSON
    """Starts a stack, gives it some life and takes the pictures."""
    home = Path(tempfile.mkdtemp(prefix="mesh-shots-"))
    extra = {
        "MESH_CONTENT_STORED": "true",
        "MESH_DASHBOARD_OIDC_ISSUER": "https://id.example.com",
        "MESH_DASHBOARD_OIDC_CLIENT_ID": "mesh",
        "MESH_DASHBOARD_OIDC_NAME": "Example ID",
    }
    stack = Stack(home / "data", free_ports_from(), gateway_workers=1, extra_env=extra)
    stack.start()
    try:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as client:
            person = Person(client, stack.demo)
            request_id, template_id = await furnish(person)
            await furnish_for_staff(person, stack)
        asked = {
            "url": stack.demo["MESH_DASHBOARD_URL"], "email": stack.demo["MESH_DEMO_EMAIL"],
            "password": stack.demo["MESH_DEMO_PASSWORD"], "requestId": request_id,
            "templateId": template_id, "only": only,
        }  # fmt: skip
        os.environ["MESH_TEST_SHOTS"] = str(folder)
        return await seen_by("screenshots.mjs", asked, within_s=1_800)
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)


def main(target: Path, only: str = "") -> int:
    """Exits 1 where a page is wider than its window. `only` is what the pictures' names begin with:
    `operator`, or nothing for all.
    """
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(take(Path(folder), only))
        size = keep(Path(folder), target, only)
    kept = len(list(target.iterdir()))
    print(f"screenshots: {len(seen['taken'])} taken, {kept} kept, {size / 1e6:.1f} MB, in {target}")
    for problem in [*seen["crooked"], *seen["problems"]]:
        print(f"screenshots: {problem}", file=sys.stderr)
    return 1 if seen["crooked"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
