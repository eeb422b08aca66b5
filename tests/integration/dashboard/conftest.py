"""The panel over real HTTP, with browsers that keep its cookie."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from services.common.clock import SystemClock
from services.common.config import HostPort
from services.common.errors import Conflict
from services.common.grpc import GrpcChannel, Principal, TokenSigner
from services.common.kafka.memory import MemoryGroups, MemoryLog
from services.common.pb.mesh.accounts.v1 import accounts_pb2
from services.common.pb.mesh.billing.v1 import billing_pb2
from services.common.pb.mesh.common.v1 import common_pb2
from services.dashboard.api.app import NONCE_PLACE, make_app
from services.dashboard.bootstrap import WebServer, open_backends
from services.dashboard.config import DashboardSettings
from services.dashboard.live_balances import LiveBalances
from services.dashboard.mail import MemoryMailer
from services.dashboard.playground import Playground
from services.dashboard.ports import Backends
from tests.fixtures.chdb import chdb_dsn
from tests.fixtures.engines import PostgresServer
from tests.integration.dashboard.services import Addresses, all_services

__all__ = ["chdb_dsn"]

PASSWORD = "correct horse battery"
STAFF = "staff@mesh.example"
Json = dict[str, Any]  # Any: JSON
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # Any: JSON
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error, whose envelope must be whole."""
        assert self.headers["content-type"] == "application/json"
        assert self.json["request_id"] == self.headers["x-request-id"]
        assert self.json["error"]["message"]
        return str(self.json["error"]["code"])


class Browser:
    """Keeps the session cookie and the CSRF token, as the page does."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        self.url = url
        self.client = client
        self.csrf = ""
        self.session: Json = {}

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """One request; an empty header is left out, so that a test can leave out the token."""
        sent = {"x-mesh-csrf": self.csrf, **headers}
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if raw is not None:
            sent.setdefault("content-type", "application/json")
        async with self.client.request(
            method,
            # As it is written: a test may want an address that a client would tidy up.
            URL(self.url + path, encoded=True),
            data=raw,
            headers={name: value for name, value in sent.items() if value},
            skip_auto_headers=["content-type"],
            allow_redirects=False,
        ) as response:
            return Answer(
                response.status,
                {name.lower(): value for name, value in response.headers.items()},
                {name: morsel.OutputString() for name, morsel in response.cookies.items()},
                await response.read(),
            )

    async def sign_up(self, email: str = "", name: str = "Ada") -> Json:
        """A new person with an account of their own, logged in."""
        email = email or f"person{next(_numbers)}@example.com"
        return await self._enter("/api/sign-up", {"email": email, "password": PASSWORD,
                                                  "name": name})  # fmt: skip

    async def log_in(self, email: str) -> Json:
        return await self._enter("/api/session", {"email": email, "password": PASSWORD})

    async def _enter(self, path: str, body: Json) -> Json:
        answer = await self.call("POST", path, body)
        assert answer.status in (200, 201), answer.body
        self.session = answer.json
        self.csrf = self.session["csrf_token"]
        return self.session

    async def create_key(self, label: str = "web", **settings: object) -> Json:
        answer = await self.call("POST", "/api/keys", {"label": label, **settings})
        assert answer.status == 201, answer.body
        found: Json = answer.json
        return found


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel that serves, and what it calls."""

    url: str
    server: WebServer
    backends: Backends
    settings: DashboardSettings
    stack: AsyncExitStack
    balances: LiveBalances
    # What the panel sent, where it has a mail server.
    mailer: MemoryMailer | None

    async def browser(self) -> Browser:
        """A browser that was never here."""
        # Loopback is an address and no name; by default the jar keeps cookies of names only.
        jar = aiohttp.CookieJar(unsafe=True)
        client = await self.stack.enter_async_context(aiohttp.ClientSession(cookie_jar=jar))
        return Browser(self.url, client)

    async def add_member(self, owner: Browser, role: str) -> Browser:
        """A new member of the owner's account, logged in in a browser of their own."""
        email = f"member{next(_numbers)}@example.com"
        request = accounts_pb2.AddMemberRequest(
            email=email,
            name="Bob",
            role=common_pb2.Role.Value(f"ROLE_{role.upper()}"),
            initial_password=PASSWORD,
        )
        operator = Principal("operator", owner.session["account_id"])
        await self.backends.accounts_channel.call(
            self.backends.accounts.AddMember, request, principal=operator
        )
        member = await self.browser()
        await member.log_in(email)
        return member

    async def credit(self, browser: Browser, amount_nanousd: int, reason: str) -> None:
        """An operator gives the browser's account money; the panel itself may not."""
        secret = self.settings.service_secret.get_secret_value()
        channel = GrpcChannel(self.settings.billing_address, TokenSigner(secret, "cli"))
        request = billing_pb2.CreditAccountRequest(
            amount_nanousd=amount_nanousd, reason=reason, idempotency_key="gift"
        )
        operator = Principal("operator", browser.session["account_id"])
        await channel.call(self.backends.billing.CreditAccount, request, principal=operator)
        await channel.close()


@pytest.fixture(scope="session")
async def addresses(postgres_dsn: PostgresServer, chdb_dsn: str) -> AsyncIterator[Addresses]:
    async with all_services(postgres_dsn, chdb_dsn) as found:
        yield found


@pytest.fixture(scope="session")
def web_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built page."""
    folder = tmp_path_factory.mktemp("dist")
    (folder / "assets").mkdir()
    (folder / "assets" / "app.js").write_text("1;")
    (folder / "index.html").write_text(f'<style nonce="{NONCE_PLACE}"></style><p>the page</p>')
    return folder


@asynccontextmanager
async def serve_panel(
    settings: DashboardSettings, mailer: MemoryMailer | None = None, log: MemoryLog | None = None
) -> AsyncIterator[Panel]:
    """The panel on a free port."""
    backends = open_backends(settings)
    balances = LiveBalances()
    playground = Playground(backends, SystemClock(), api_url=settings.public_api_url)
    await playground.start()
    app = make_app(
        settings,
        backends,
        SystemClock(),
        balances=balances,
        playground=playground,
        mailer=mailer,
        log_groups=MemoryGroups(log or MemoryLog()),
    )
    server = WebServer(settings, app)
    await server.start()
    async with AsyncExitStack() as stack:
        yield Panel(
            url=f"http://127.0.0.1:{server.port}",
            server=server,
            backends=backends,
            settings=settings,
            stack=stack,
            balances=balances,
            mailer=mailer,
        )
    await server.stop()
    await playground.stop()
    for channel in backends.channels:
        await channel.close()


@pytest.fixture(scope="session")
def settings_for(addresses: Addresses, web_dir: Path) -> Callable[..., DashboardSettings]:
    """The settings of a panel over the services, with these over them."""

    def made(**over: object) -> DashboardSettings:
        known: dict[str, Any] = {  # Any: fields of all kinds
            "listen": HostPort("127.0.0.1:0"),
            "accounts_address": addresses.accounts,
            "billing_address": addresses.billing,
            "catalog_address": addresses.catalog,
            "usage_address": addresses.usage,
            "usage_live_address": HostPort(f"127.0.0.1:{addresses.live.server.port}"),
            "web_dir": web_dir,
        }
        return DashboardSettings(**(known | over))

    return made


@pytest.fixture(scope="session")
async def panel(settings_for: Callable[..., DashboardSettings]) -> AsyncIterator[Panel]:
    """One panel for all tests; every test makes its own accounts in it."""
    async with serve_panel(settings_for()) as found:
        yield found


@pytest.fixture
async def browser(panel: Panel) -> Browser:
    """A browser that was never here."""
    return await panel.browser()


@pytest.fixture
async def ada(panel: Panel) -> Browser:
    """The owner of a new account, logged in."""
    found = await panel.browser()
    await found.sign_up()
    return found


@pytest.fixture(scope="module")
async def staffed(
    settings_for: Callable[..., DashboardSettings], addresses: Addresses
) -> AsyncIterator[Panel]:
    """A panel that has staff, whose user the command line made."""
    settings = settings_for(operators=f" {STAFF.upper()}, other@mesh.example")
    async with serve_panel(settings, log=addresses.log) as made:
        request = accounts_pb2.SignUpRequest(email=STAFF, password=PASSWORD, name="Grace")
        # The services outlive this panel.
        with suppress(Conflict):
            await made.backends.accounts_channel.call(made.backends.accounts.SignUp, request)
        yield made


@pytest.fixture
async def grace(staffed: Panel) -> Browser:
    """A person of the staff, logged in."""
    found = await staffed.browser()
    await found.log_in(STAFF)
    return found


async def notes(browser: Browser) -> list[tuple[str, str, str]]:
    """What the person did as staff, newest first: action, subject, note."""
    events = (await browser.call("GET", "/api/audit")).json["events"]
    ours = [one for one in events if one["type"] == "accounts.OperatorActed"]
    said = [json.loads(one["details_json"]) for one in ours]
    return [
        (one["action"], event["subject"], one["note"])
        for one, event in zip(said, ours, strict=True)
    ]
