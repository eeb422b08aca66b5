"""Tries a provider out over HTTP, and the twin that answers from memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from services.catalog.domain.probe import ProbeAnswer, ProbeRequest
from services.common.clock import Clock

TIMEOUT_S = 10.0


class HttpProbe:
    """A `ProviderProbe`: one connection a question, as people ask seldom; redirects are not
    followed, because the credential would go along.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def ask(self, request: ProbeRequest) -> ProbeAnswer:
        """See `ProviderProbe.ask`."""
        started_s = self._clock.monotonic_s()
        status, problem = 0, ""
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                aiohttp.ClientSession() as client,
                client.get(request.url, headers=request.headers, allow_redirects=False) as answer,
            ):
                status = answer.status
        except TimeoutError:
            problem = f"it took longer than {TIMEOUT_S:.0f} seconds"
        except (aiohttp.ClientConnectorError, OSError):
            problem = "it cannot be reached"
        except (aiohttp.ClientError, ValueError):
            problem = "it does not speak HTTP as it should"
        latency_ms = round((self._clock.monotonic_s() - started_s) * 1000)
        return ProbeAnswer(status, latency_ms, problem)


class MemoryProbe:
    """Answers with the status that its table has for a URL and a credential's header."""

    def __init__(self, statuses: Mapping[str, int] | None = None) -> None:
        self._statuses = dict(statuses or {})
        self.asked: list[ProbeRequest] = []

    async def ask(self, request: ProbeRequest) -> ProbeAnswer:
        """See `ProviderProbe.ask`."""
        self.asked.append(request)
        status = self._statuses.get(request.url, 0)
        return ProbeAnswer(status, 1, "" if status else "it cannot be reached")
