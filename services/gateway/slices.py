"""A hold that grows with the answer it pays for, where nobody bounds how long that will be.

The first slice is held before anything is sent. From its half on the next is asked for in the
background, so that the stream waits for money only where there is none at hand. What the hold does
not pay for is not passed on: a stream whose next slice cannot be had ends where its money does.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

from services.common.errors import AppError
from services.common.money import Price, cost_nanousd, tokens_within
from services.gateway import tokens
from services.gateway.metering import Estimate, EstimateRules, UsageTally
from services.gateway.ports import Budget, Hold


class HoldSlices:
    """The money of one answer. `close` it when the answer has ended, however it did."""

    def __init__(
        self,
        budget: Budget,
        hold: Hold,
        guess: Estimate,
        *,
        price: Price,
        tokenizer: str,
        rules: EstimateRules,
    ) -> None:
        self._budget = budget
        self._hold = hold
        self._guess = guess
        self._price = price
        self._tokenizer = tokenizer
        self._factor = 1.0 if tokens.is_exact(tokenizer) else rules.safety_factor
        self._least = rules.output_tokens_least
        # Output tokens that the hold pays for, as estimates count them.
        self._paid = self._ahead = 0
        self._note_paid()
        # How many texts were looked at, the tokens of those that were counted, and the others with
        # their bytes, which bound their tokens.
        self._seen = self._seen_reasoning = 0
        self._counted = 0
        self._pending: list[str] = []
        self._bytes = 0
        self._growing: asyncio.Task[None] | None = None
        self._scarce = False

    def covers(self, tally: UsageTally) -> bool:
        """True where the hold pays for all that was produced. Asks for more where it soon will
        not; never waits.
        """
        new = [*tally.texts[self._seen :], *tally.reasoning_texts[self._seen_reasoning :]]
        self._seen, self._seen_reasoning = len(tally.texts), len(tally.reasoning_texts)
        # No text has more tokens than bytes, so that most chunks need no counting.
        self._pending += new
        self._bytes += _bytes(new)
        return (self._counted + self._bytes) * self._factor <= self._ahead or self._look_closer()

    def covers_words(self, text: str) -> bool:
        """The same, where this text is all that has come since it was last asked."""
        self._seen += 1
        self._pending.append(text)
        self._bytes += len(text) if text.isascii() else len(text.encode())
        return (self._counted + self._bytes) * self._factor <= self._ahead or self._look_closer()

    def _look_closer(self) -> bool:
        """Counts, where bytes do not tell, and asks for more where it is time to."""
        self._count_pending()
        needed = self._needed(self._counted)
        if needed > self._ahead and self._growing is None and not self._scarce:
            self._growing = asyncio.create_task(self._grow_ahead())
        return needed <= self._paid

    async def fund(self, tally: UsageTally) -> bool:
        """Waits until the hold pays for all that was produced; False where it cannot."""
        if self._growing is not None:
            await asyncio.wait({self._growing})
        # Chunks that are cut in the middle of words count for more than what they make together.
        texts = [text for part in tally.joined() for text in part]
        self._counted = await tokens.count_text(texts, self._tokenizer)
        self._pending, self._bytes = [], 0
        needed = self._needed(self._counted)
        if needed > self._paid:
            try:
                await self._grow(
                    needed - self._paid + self._guess.slice_tokens, needed - self._paid
                )
            except AppError:
                return False
            self._scarce = False
        return needed <= self._paid

    def close(self) -> None:
        """Asks for no more."""
        if self._growing is not None:
            self._growing.cancel()

    async def _grow_ahead(self) -> None:
        try:
            await self._grow(self._guess.slice_tokens, self._least)
        except AppError:
            # Told in the moment it is needed, if it is still not there then.
            self._scarce = True
        finally:
            self._growing = None

    async def _grow(self, more: int, least: int) -> None:
        """So many tokens more. Raises what `Budget.grow` does."""
        full = self._cost(self._paid + more) - self._hold.amount_nanousd
        bound = self._cost(self._paid + least) - self._hold.amount_nanousd
        await self._budget.grow(
            self._hold, more_nanousd=max(1, full), least_nanousd=max(1, min(bound, full))
        )
        self._note_paid()

    def _note_paid(self) -> None:
        """The most output tokens that cost, with the prompt, no more than the hold."""
        self._paid = tokens_within(
            self._hold.amount_nanousd,
            self._price,
            kind=self._guess.output_kind,
            beside={self._guess.prompt_kind: self._guess.prompt_tokens},
            most=_TOKENS_MAX,
        )
        # From here on it is time to ask for more.
        self._ahead = self._paid - self._guess.slice_tokens // 2

    def _cost(self, output_tokens: int) -> int:
        quantities = {
            self._guess.prompt_kind: self._guess.prompt_tokens,
            self._guess.output_kind: output_tokens,
        }
        return cost_nanousd(quantities, self._price)

    def _count_pending(self) -> None:
        """Counts what is only bounded so far. Of a very long text the bound stands: `fund`, which
        may wait, counts it where that matters.
        """
        inline = self._bytes <= tokens.INLINE_CHARACTERS_MAX
        self._counted += (
            tokens.count_inline(self._pending, self._tokenizer) if inline else self._bytes
        )
        self._pending, self._bytes = [], 0

    def _needed(self, counted: int) -> int:
        return math.ceil(counted * self._factor)


# Where a price is so low that any number of tokens costs nothing.
_TOKENS_MAX = 1 << 40


def _bytes(texts: Sequence[str]) -> int:
    return sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
