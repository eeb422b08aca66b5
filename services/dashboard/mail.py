"""Letters to people: over SMTP where the operator set it, in memory for tests, or not at all.

A letter is a courtesy: the page shows every link as well, so that a server that is away costs
nobody anything.
"""

from __future__ import annotations

from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import aiosmtplib

from services.common.errors import Unavailable
from services.dashboard.ports import Letter, Mailer

TIMEOUT_S = 10.0
PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}


class SmtpMailer:
    """Implements `Mailer`. `smtp://` is STARTTLS, `smtps://` TLS from the start, `smtp+plain://` no
    encryption, for a relay on one's own machine.
    """

    def __init__(self, url: str, sender: str) -> None:
        self._parts = urlsplit(url)
        self._sender = sender

    async def send(self, letter: Letter) -> None:
        """Raises Unavailable where the server does not take the letter."""
        parts = self._parts
        try:
            await aiosmtplib.send(
                message_of(letter, self._sender),
                hostname=parts.hostname,
                port=parts.port or PORTS[parts.scheme],
                username=unquote(parts.username) if parts.username else None,
                password=unquote(parts.password) if parts.password else None,
                use_tls=parts.scheme == "smtps",
                start_tls=parts.scheme == "smtp",
                timeout=TIMEOUT_S,
            )
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Unavailable("The mail server did not take the letter.") from error


class MemoryMailer:
    """Implements `Mailer`; `sent` is what was sent. While `away`, nothing is taken."""

    def __init__(self) -> None:
        self.sent: list[Letter] = []
        self.away = False

    async def send(self, letter: Letter) -> None:
        if self.away:
            raise Unavailable("The mail server did not take the letter.")
        self.sent.append(letter)


def message_of(letter: Letter, sender: str) -> EmailMessage:
    """The letter as it goes out; its subject is one line, whatever is in it."""
    message = EmailMessage()
    message["From"], message["To"] = sender, letter.to
    message["Subject"] = " ".join(letter.subject.split())
    message.set_content(letter.text)
    return message


def mailer_of(smtp_url: str, sender: str) -> Mailer | None:
    """The mailer of the settings; None where none is set."""
    return SmtpMailer(smtp_url, sender) if smtp_url else None
