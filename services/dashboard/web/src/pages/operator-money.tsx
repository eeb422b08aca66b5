/** For staff: money that nobody answers for, and whether the books agree. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { differencesQuery, grantsQuery, useReconcile, useVerify, useWriteOff } from "../api/operator";
import { Button, Segments } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Badge, Card, type Column, DataTable } from "../components/layout";
import { Asking, Id, Loaded, OperatorPage, ReasonField } from "../components/operator-frame";
import { ago, count, dollars, time, words } from "../format";

type Grant = Schemas["HeldGrant"];
type Difference = Schemas["DifferenceOut"];

function AccountLink({ accountId }: { accountId: string }) {
  return (
    <Link
      to="/operator/accounts/$accountId"
      params={{ accountId }}
      className="break-all font-mono text-xs text-accent hover:underline"
    >
      {accountId}
    </Link>
  );
}

function GrantState({ grant }: { grant: Grant }) {
  return <Badge tone={grant.status === "unresolved" ? "bad" : "good"}>{words(grant.status)}</Badge>;
}

function WriteOff({ grant, onClose }: { grant: Grant; onClose: () => void }) {
  const writeOff = useWriteOff(grant.grant_id);
  return (
    <Asking
      title="Write the grant off"
      about={`${dollars(grant.held_usd)} become available to the account again. Should its worker still come back, what it spent is booked all the same.`}
      action="Write off"
      danger
      error={writeOff.error}
      isPending={writeOff.isPending}
      onClose={onClose}
      onSubmit={(text) => writeOff.mutate(text("reason"), { onSuccess: onClose })}
    >
      <ReasonField hint="It stands in the journal." />
    </Asking>
  );
}

export function OperatorGrantsPage() {
  const [which, setWhich] = useState("unresolved");
  const [writing, setWriting] = useState<Grant | null>(null);
  const found = useInfiniteQuery(grantsQuery(which === "unresolved"));
  const grants = found.data?.pages.flatMap((page) => page.grants) ?? [];
  const columns: Column<Grant>[] = [
    {
      title: "Account",
      cell: (row) => (
        <div className="min-w-0">
          <AccountLink accountId={row.account_id} />
          <p className="mt-1 space-x-2 text-xs text-muted md:hidden">
            <GrantState grant={row} /> <span>{ago(row.expires_at)}</span>
          </p>
        </div>
      ),
    },
    { title: "State", cell: (row) => <GrantState grant={row} />, wide: true },
    {
      title: "Expires",
      wide: true,
      cell: (row) => <span title={row.expires_at ? time(row.expires_at) : ""} className="whitespace-nowrap">{ago(row.expires_at)}</span>,
    },
    { title: "Worker", cell: (row) => <Id>{row.worker_id}</Id>, wide: true },
    { title: "Lent", cell: (row) => dollars(row.amount_usd), align: "right", wide: true },
    { title: "Settled", cell: (row) => dollars(row.settled_usd), align: "right", wide: true },
    { title: "Held", cell: (row) => dollars(row.held_usd), align: "right" },
    {
      title: "Actions",
      align: "right",
      cell: (row) =>
        row.status === "unresolved" && (
          <Button look="danger" aria-label={`Write off ${row.grant_id}`} onPress={() => setWriting(row)}>
            Write off
          </Button>
        ),
    },
  ];
  return (
    <OperatorPage
      title="Grants"
      about="Money lent to gateway workers. One whose worker did not come back is unresolved, and its money stays held."
      actions={<Segments label="Which grants" value={which} options={[["unresolved", "Unresolved"], ["all", "All"]]} onChange={setWhich} />}
    >
      <Card>
        {found.error && <div className="p-4"><ErrorNote error={found.error} /></div>}
        {found.isPending ? (
          <Waiting />
        ) : grants.length ? (
          <>
            <DataTable label="Grants" columns={columns} rows={grants} keyOf={(row) => row.grant_id} />
            {found.hasNextPage && (
              <div className="border-t border-line p-3 text-center">
                <Button isDisabled={found.isFetchingNextPage} onPress={() => void found.fetchNextPage()}>More</Button>
              </div>
            )}
          </>
        ) : (
          !found.error && (
            <Nothing title={which === "unresolved" ? "Every grant is accounted for" : "No money is lent now"}>
              {which === "unresolved" && "Should a worker not come back, what it holds is listed here."}
            </Nothing>
          )
        )}
      </Card>
      {writing && <WriteOff grant={writing} onClose={() => setWriting(null)} />}
    </OperatorPage>
  );
}

const few = (ids: string[]) => (
  <span className="break-all font-mono text-xs">{ids.slice(0, 3).join(", ") || "–"}{ids.length > 3 && ` and ${count(ids.length - 3)} more`}</span>
);

const inLog = (row: Difference) => `${count(row.log_requests)} · ${dollars(row.log_cost_usd)}`;
const inLedger = (row: Difference) => `${count(row.ledger_requests)} · ${dollars(row.ledger_cost_usd)}`;

const DIFFERENCES: Column<Difference>[] = [
  {
    title: "Hour",
    cell: (row) => (
      <div className="min-w-0">
        <p className="whitespace-nowrap">{time(row.hour)}</p>
        <div className="space-y-1 md:hidden">
          <AccountLink accountId={row.account_id} />
          {row.only_in_log.length > 0 && <p className="text-xs text-muted">Only in the log: {few(row.only_in_log)}</p>}
          {row.only_in_ledger.length > 0 && <p className="text-xs text-muted">Only in the ledger: {few(row.only_in_ledger)}</p>}
          {row.cost_differs.length > 0 && <p className="text-xs text-muted">Cost differs: {few(row.cost_differs)}</p>}
        </div>
      </div>
    ),
  },
  { title: "Account", cell: (row) => <AccountLink accountId={row.account_id} />, wide: true },
  { title: "Log", cell: inLog, align: "right", wide: true },
  { title: "Ledger", cell: inLedger, align: "right", wide: true },
  {
    title: "Log, ledger",
    align: "right",
    narrow: true,
    cell: (row) => (
      <div>
        <p>{inLog(row)}</p>
        <p>{inLedger(row)}</p>
      </div>
    ),
  },
  { title: "Only in the log", cell: (row) => few(row.only_in_log), wide: true },
  { title: "Only in the ledger", cell: (row) => few(row.only_in_ledger), wide: true },
  { title: "Cost differs", cell: (row) => few(row.cost_differs), wide: true },
];

const FINDINGS: Column<Schemas["FindingOut"]>[] = [
  { title: "Account", cell: (row) => (row.account_id ? <AccountLink accountId={row.account_id} /> : "The seals") },
  { title: "Finding", cell: (row) => row.what },
];

function Reconciliation() {
  const known = useQuery(differencesQuery);
  const compare = useReconcile();
  return (
    <Card title="Request log and ledger">
      <div className="flex flex-wrap items-center justify-between gap-3 p-4">
        <p className="text-muted">
          {known.data && `Last compared: ${ago(known.data.compared_at)}.`}{" "}
          <span role="status">
            {compare.data &&
              `${count(compare.data.requests)} requests of ${dollars(compare.data.cost_usd)} in ${count(compare.data.hours)} hours of accounts: ${
                compare.data.differences.length ? `${count(compare.data.differences.length)} differ.` : "they agree."
              }`}
          </span>
        </p>
        <Button isDisabled={compare.isPending} onPress={() => compare.mutate()}>
          {compare.isPending ? "Comparing…" : "Compare now"}
        </Button>
      </div>
      {compare.error && <div className="px-4 pb-4"><ErrorNote error={compare.error} /></div>}
      <Loaded query={known} rows={2}>
        {(data) =>
          data.differences.length ? (
            <div className="border-t border-line">
              <DataTable label="Differences" columns={DIFFERENCES} rows={data.differences} keyOf={(row) => row.account_id + row.hour} />
            </div>
          ) : (
            <Nothing title="No differences">Every request stands in both at the same cost.</Nothing>
          )
        }
      </Loaded>
    </Card>
  );
}

function Verification() {
  const verify = useVerify();
  const done = verify.data;
  return (
    <Card title="Ledger and its seals">
      <div className="flex flex-wrap items-center justify-between gap-3 p-4">
        <p className="text-muted" role="status">
          {done
            ? `${count(done.accounts)} accounts, ${count(done.events)} events, ${count(done.transactions)} transactions, ${count(done.seals)} hourly seals: ${
                done.findings.length ? `${count(done.findings.length)} findings.` : "nothing wrong."
              }`
            : "Folds every journal again, checks its chain and computes the hourly seals anew. It reads everything."}
        </p>
        <Button isDisabled={verify.isPending} onPress={() => verify.mutate()}>
          {verify.isPending ? "Verifying…" : "Verify now"}
        </Button>
      </div>
      {verify.error && <div className="px-4 pb-4"><ErrorNote error={verify.error} /></div>}
      {done && done.findings.length > 0 && (
        <div className="border-t border-line">
          <DataTable label="Findings" columns={FINDINGS} rows={done.findings} keyOf={(row) => row.account_id + row.what} />
        </div>
      )}
    </Card>
  );
}

export function OperatorBooksPage() {
  return (
    <OperatorPage title="Books" about="Whether what was logged, what was booked and what was sealed say the same.">
      <Reconciliation />
      <Verification />
    </OperatorPage>
  );
}
