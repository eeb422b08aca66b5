/** The wallet and the journal that explains it. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";

import type { Schemas } from "../api/client";
import { balanceQuery, transactionsQuery } from "../api/queries";
import { Button } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { PaymentHistoryCard } from "../components/payment-history";
import { PaymentsCard, RefillCard, TestMode, TopUpButton } from "../components/payments";
import { SpendCard } from "../components/spend";
import { Card, type Column, DataTable, Figure, Page } from "../components/layout";
import { dollars, dollarsExact, time, words } from "../format";

type Row = Schemas["TransactionOut"];

const COLUMNS: Column<Row>[] = [
  { title: "No.", cell: (row) => row.sequence, align: "right" },
  { title: "Booked", cell: (row) => <span className="whitespace-nowrap">{time(row.booked_at)}</span> },
  { title: "Kind", cell: (row) => words(row.kind) },
  {
    title: "For",
    cell: (row) =>
      row.request_id ? (
        <Link
          to="/logs/$requestId"
          params={{ requestId: row.request_id }}
          className="font-mono text-xs hover:underline"
        >
          {row.model_id || row.request_id}
        </Link>
      ) : (
        row.reason
      ),
    wide: true,
  },
  {
    title: "Amount",
    align: "right",
    cell: (row) => (
      <span className={row.amount_usd.startsWith("-") ? "" : "text-good"}>
        {dollarsExact(row.amount_usd)}
      </span>
    ),
  },
];

export function BillingPage() {
  const balance = useQuery(balanceQuery);
  const journal = useInfiniteQuery(transactionsQuery);
  const entries = journal.data?.pages.flatMap((page) => page.transactions) ?? [];
  return (
    <Page
      title="Billing"
      about="One prepaid balance in US dollars, for every model."
      actions={<TopUpButton />}
    >
      <ErrorNote error={balance.error ?? journal.error} />
      <TestMode />
      <div className="grid gap-3 sm:grid-cols-3">
        <Figure
          label="Available"
          value={balance.data ? dollars(balance.data.available_usd) : "…"}
          note="What requests can still use."
        />
        <Figure
          label="Held"
          value={balance.data ? dollars(balance.data.held_usd) : "…"}
          note="Lent to gateways for requests in flight; what is not used comes back by itself."
        />
        <Figure
          label="Balance"
          value={balance.data ? dollars(balance.data.posted_usd) : "…"}
          note="The sum of the entries below."
        />
      </div>
      <SpendCard />
      <RefillCard />
      <PaymentsCard />
      {(entries.length > 0 || !journal.error) && <Card title="Entries">
        {journal.isPending ? (
          <Waiting rows={6} />
        ) : entries.length ? (
          <>
            <DataTable
              label="Entries of the ledger"
              columns={COLUMNS}
              rows={entries}
              keyOf={(row) => row.transaction_id}
            />
            {journal.hasNextPage && (
              <div className="border-t border-line p-3 text-center">
                <Button
                  isDisabled={journal.isFetchingNextPage}
                  onPress={() => void journal.fetchNextPage()}
                >
                  Older entries
                </Button>
              </div>
            )}
          </>
        ) : (
          <Nothing title="No entries yet">Credits and spending appear here, one by one.</Nothing>
        )}
      </Card>}
      <PaymentHistoryCard />
    </Page>
  );
}
