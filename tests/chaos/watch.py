"""What must be true at every moment, looked at through gRPC while processes are being killed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.errors import AppError
from services.common.pb.mesh.billing.v1 import billing_pb2
from tests.e2e.operator import Account, Operator

EVERY_S = 0.5


@dataclass(slots=True)
class Watch:
    """Samples every account's balance and every key's spend; keeps what was wrong."""

    operator: Operator
    customers: Sequence[Account]
    samples: int = 0
    violations: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Samples until cancelled; services that are away are asked again at the next turn."""
        while True:
            for customer in self.customers:
                try:
                    await self.sample(customer)
                except AppError:
                    continue
            await asyncio.sleep(EVERY_S)

    async def sample(self, customer: Account) -> None:
        """One look at one account. Raises AppError where billing is away."""
        account = customer.account_id
        balance = await self.operator.call(
            "billing", "GetBalance", billing_pb2.GetBalanceRequest(), account
        )
        if min(balance.available_nanousd, balance.granted_nanousd) < 0:
            self.violations.append(f"{account}: below zero: {balance}")
        spend = await self.operator.call(
            "billing", "ListKeySpend", billing_pb2.ListKeySpendRequest(), account
        )
        for key in spend.keys:
            taken = key.spent_nanousd + key.granted_nanousd
            if key.HasField("spend_cap_nanousd") and taken > key.spend_cap_nanousd:
                self.violations.append(f"{key.key_id}: {taken} taken, cap {key.spend_cap_nanousd}")
        self.samples += 1
