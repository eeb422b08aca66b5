/** What was spent, by day, provider, model and key, and who did what about paying. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";

import type { Schemas } from "../api/client";
import { keysQuery, paymentHistoryQuery, spendQuery } from "../api/queries";
import { count, dollarsExact, nanoOf, time, words } from "../format";
import { Button } from "./controls";
import { ErrorNote, Nothing } from "./feedback";
import { Card, type Column, DataTable } from "./layout";

type Spend = Schemas["SpendRowOut"];

/** Newest day first, as the journal has it. */
export function SpendCard() {
  const spend = useQuery(spendQuery);
  const keys = useQuery(keysQuery);
  const labels = new Map(keys.data?.map((key) => [key.key_id, key.label]));
  const columns: Column<Spend>[] = [
    { title: "Day (UTC)", sort: (row) => row.day, cell: (row) => <span className="whitespace-nowrap">{row.day}</span> },
    { title: "Provider", sort: (row) => row.provider_id, cell: (row) => row.provider_id, wide: true },
    { title: "Model", sort: (row) => row.model_id, cell: (row) => row.model_id },
    { title: "Key", cell: (row) => labels.get(row.key_id) ?? row.key_id, wide: true },
    { title: "Requests", sort: (row) => row.requests, align: "right", wide: true, cell: (row) => count(row.requests) },
    { title: "Spent", sort: (row) => nanoOf(row.spent_usd), align: "right", cell: (row) => dollarsExact(row.spent_usd) },
  ];
  if (!spend.data) return <ErrorNote error={spend.error} />;
  return (
    <Card title={`Spent in 30 days: ${dollarsExact(spend.data.spent_usd)}`}>
      {spend.data.rows.length ? (
        <DataTable
          label="Spending by day"
          columns={columns}
          rows={[...spend.data.rows].reverse()}
          keyOf={(row) => [row.day, row.provider_id, row.model_id, row.key_id].join()}
        />
      ) : (
        <Nothing title="Nothing was spent">What requests cost appears here, to the last digit.</Nothing>
      )}
    </Card>
  );
}

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
