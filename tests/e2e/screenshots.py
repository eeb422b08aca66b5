"""Pictures of every page of the panel, from a stack of its own with some life in it.

`python -m tests.e2e.screenshots docs/screenshots` (or `make screenshots`): each page light and
dark, 1440 and 390 pixels wide, empty, loading, full and in error, as WebP.
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
from tests.e2e.stack import Stack, free_ports_from

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
        (await person.call("POST", "/keys", {"label": label, **settings}))["secret"]
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


def shown(name: str) -> bool:
    """Of the states in which there is little to see, two pictures of each page are kept."""
    other = any(f"-{state}-" in name for state in ("empty", "loading", "error"))
    return not other or name.endswith(("-wide-light", "-phone-dark"))


def keep(source: Path, target: Path) -> int:
    """The pictures as WebP, in place of those that were there; how many bytes."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for picture in sorted(source.glob("*.png")):
        if not shown(picture.stem):
            continue
        with Image.open(picture) as image:
            image.save(target / f"{picture.stem}.webp", quality=QUALITY, method=6)
    return sum(file.stat().st_size for file in target.iterdir())


async def take(folder: Path) -> Any:  # Any: JSON
    """Starts a stack, gives it some life and takes the pictures."""
    home = Path(tempfile.mkdtemp(prefix="mesh-shots-"))
    extra = {
        "MESH_DASHBOARD_OIDC_ISSUER": "https://id.example.com",
        "MESH_DASHBOARD_OIDC_CLIENT_ID": "mesh",
        "MESH_DASHBOARD_OIDC_NAME": "Example ID",
    }
    stack = Stack(home / "data", free_ports_from(), gateway_workers=1, extra_env=extra)
    stack.start()
    try:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(cookie_jar=jar) as client:
            request_id, template_id = await furnish(Person(client, stack.demo))
        asked = {
            "url": stack.demo["MESH_DASHBOARD_URL"], "email": stack.demo["MESH_DEMO_EMAIL"],
            "password": stack.demo["MESH_DEMO_PASSWORD"], "requestId": request_id,
            "templateId": template_id,
        }  # fmt: skip
        os.environ["MESH_TEST_SHOTS"] = str(folder)
        return await seen_by("screenshots.mjs", asked, within_s=900)
    finally:
        stack.stop()
        shutil.rmtree(home, ignore_errors=True)


def main(target: Path) -> int:
    """Exits 1 where a page is wider than its window."""
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(take(Path(folder)))
        size = keep(Path(folder), target)
    kept = len(list(target.iterdir()))
    print(f"screenshots: {len(seen['taken'])} taken, {kept} kept, {size / 1e6:.1f} MB, in {target}")
    for problem in [*seen["crooked"], *seen["problems"]]:
        print(f"screenshots: {problem}", file=sys.stderr)
    return 1 if seen["crooked"] else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
