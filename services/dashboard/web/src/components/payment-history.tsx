/** Who did what about paying. */
import { useInfiniteQuery } from "@tanstack/react-query";

import type { Schemas } from "../api/client";
import { paymentHistoryQuery } from "../api/queries";
import { dollarsExact, time, words } from "../format";
import { Button } from "./controls";
import { ErrorNote } from "./feedback";
import { Card, type Column, DataTable } from "./layout";

type Fact = Schemas["PaymentFactOut"];

const ACTORS: Record<string, string> = { mesh: "by itself", operator: "the operator" };

const FACTS: Column<Fact>[] = [
  { title: "When", cell: (row) => <span className="whitespace-nowrap">{time(row.at)}</span> },
  { title: "What", cell: (row) => `${words(row.kind)} ${words(row.status)}` },
  { title: "By", cell: (row) => ACTORS[row.actor] ?? row.actor, wide: true },
  { title: "Why", cell: (row) => words(row.detail), wide: true },
  {
    title: "Amount",
    align: "right",
    cell: (row) => (Number(row.amount_usd) === 0 ? "" : dollarsExact(row.amount_usd)),
  },
];

/** The audit trail of paying, newest first. */
export function PaymentHistoryCard() {
  const history = useInfiniteQuery(paymentHistoryQuery);
  const facts = history.data?.pages.flatMap((page) => page.facts) ?? [];
  if (!facts.length) return <ErrorNote error={history.error} />;
  return (
    <Card title="What happened about payments">
      <DataTable label="History of payments" columns={FACTS} rows={facts} keyOf={(row) => row.event_id} />
      {history.hasNextPage && (
        <div className="border-t border-line p-3 text-center">
          <Button
            isDisabled={history.isFetchingNextPage}
            onPress={() => void history.fetchNextPage()}
          >
            Earlier
          </Button>
        </div>
      )}
    </Card>
  );
}
