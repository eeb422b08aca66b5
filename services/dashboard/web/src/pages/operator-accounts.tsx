/** For staff: every account, and one of them with its money, keys and people. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useDeferredValue, useState } from "react";

import type { Schemas } from "../api/client";
import { accountQuery, foundAccountsQuery, useAccountChanges } from "../api/operator";
import { Button, Field } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Badge, Card, type Column, DataTable, Figure } from "../components/layout";
import { Asking, Id, Loaded, OperatorPage, ReasonField } from "../components/operator-frame";
import { ago, count, dollars, time, words } from "../format";

type Account = Schemas["OperatorAccount"];

const State = ({ account }: { account: Account }) =>
  account.suspended ? <Badge tone="bad">Suspended</Badge> : <Badge tone="good">Active</Badge>;

const ACCOUNTS: Column<Account>[] = [
  {
    title: "Account",
    cell: (row) => (
      <div className="min-w-0">
        <Link
          to="/operator/accounts/$accountId"
          params={{ accountId: row.account_id }}
          className="font-medium text-accent hover:underline"
        >
          {row.name}
        </Link>
        <p className="break-all text-xs text-muted">{row.owner_email}</p>
      </div>
    ),
  },
  { title: "State", cell: (row) => <State account={row} /> },
  { title: "Since", cell: (row) => <span title={time(row.created_at)}>{ago(row.created_at)}</span>, wide: true },
  { title: "Id", cell: (row) => <Id>{row.account_id}</Id>, wide: true },
];

export function OperatorAccountsPage() {
  const [typed, setTyped] = useState("");
  const search = useDeferredValue(typed.trim());
  const found = useInfiniteQuery({ ...foundAccountsQuery(search), placeholderData: (before) => before });
  const accounts = found.data?.pages.flatMap((page) => page.accounts) ?? [];
  return (
    <OperatorPage title="Accounts" about="Everybody who uses this installation, newest first.">
      <div className="max-w-md">
        <Field label="Search" placeholder="Part of a name or of an address" value={typed} onChange={setTyped} type="search" />
      </div>
      <Card>
        {found.error && <div className="p-4"><ErrorNote error={found.error} /></div>}
        {found.isPending ? (
          <Waiting />
        ) : accounts.length ? (
          <>
            <DataTable label="Accounts" columns={ACCOUNTS} rows={accounts} keyOf={(row) => row.account_id} />
            {found.hasNextPage && (
              <div className="border-t border-line p-3 text-center">
                <Button isDisabled={found.isFetchingNextPage} onPress={() => void found.fetchNextPage()}>
                  More
                </Button>
              </div>
            )}
          </>
        ) : (
          !found.error && <Nothing title="No account fits">Search for less of the name.</Nothing>
        )}
      </Card>
    </OperatorPage>
  );
}

const MEMBERS: Column<Schemas["MemberOut"]>[] = [
  {
    title: "Person",
    cell: (row) => (
      <div>
        <p className="font-medium">{row.name || row.email}</p>
        <p className="break-all text-xs text-muted">{row.email}</p>
      </div>
    ),
  },
  { title: "Role", cell: (row) => words(row.role) },
  { title: "Since", cell: (row) => time(row.added_at), wide: true },
];

function Suspend({ accountId, onClose }: { accountId: string; onClose: () => void }) {
  const { suspend } = useAccountChanges(accountId);
  return (
    <Asking
      title="Suspend the account"
      about="Every key of the account is refused within a second; its people can still log in."
      action="Suspend"
      danger
      error={suspend.error}
      isPending={suspend.isPending}
      onClose={onClose}
      onSubmit={(text) => suspend.mutate({ reason: text("reason") }, { onSuccess: onClose })}
    >
      <ReasonField hint="It stands in the account's audit trail." />
    </Asking>
  );
}

function GiveCredit({ accountId, onClose }: { accountId: string; onClose: () => void }) {
  const { promo } = useAccountChanges(accountId);
  // One for each time the sheet is opened: a second press of the button gives nothing twice.
  const [key] = useState(() => crypto.randomUUID());
  return (
    <Asking
      title="Give promotional credit"
      about="It is used before paid credit and cannot be paid out."
      action="Give credit"
      error={promo.error}
      isPending={promo.isPending}
      onClose={onClose}
      onSubmit={(text) =>
        promo.mutate(
          {
            amount_usd: text("amount"),
            days: Number(text("days") || 0),
            reason: text("reason"),
            idempotency_key: key,
          },
          { onSuccess: onClose },
        )
      }
    >
      <Field name="amount" label="Amount in USD" inputMode="decimal" placeholder="5.00" isRequired />
      <Field name="days" label="Days until it expires" inputMode="numeric" defaultValue="90" hint="0: never." pattern="[0-9]{1,4}" />
      <Field name="reason" label="Reason" hint="The account's owner sees it among the entries." isRequired maxLength={400} />
    </Asking>
  );
}

function Details({ data }: { data: Schemas["OperatorAccountDetails"] }) {
  return (
    <>
      <div className="flex flex-wrap items-center gap-3">
        <State account={data.account} />
        <Id>{data.account.account_id}</Id>
        <span className="text-xs text-muted">since {time(data.account.created_at)}</span>
      </div>
      <div className="grid grid-cols-2 gap-3 lg:grid-cols-4">
        <Figure label="Available" value={dollars(data.balance.available_usd)} />
        <Figure label="Held" value={dollars(data.balance.held_usd)} note="lent to requests under way" />
        <Figure
          label="Keys"
          value={`${count(data.keys)}${data.keys_more ? "+" : ""}`}
          note={`${count(data.keys_active)} not suspended`}
        />
        <Figure label="Members" value={count(data.members.length)} />
      </div>
      <Card title="Members">
        <DataTable label="Members" columns={MEMBERS} rows={data.members} keyOf={(row) => row.user_id} />
      </Card>
    </>
  );
}

export function OperatorAccountPage() {
  const { accountId } = useParams({ strict: false }) as { accountId: string };
  const details = useQuery(accountQuery(accountId));
  const { resume } = useAccountChanges(accountId);
  const [open, setOpen] = useState<"" | "suspend" | "credit">("");
  const account = details.data?.account;
  const close = () => setOpen("");
  return (
    <OperatorPage
      title={account?.name ?? "Account"}
      about={account?.owner_email ?? accountId}
      actions={
        account && (
          <div className="flex flex-wrap gap-2">
            <Button look="primary" onPress={() => setOpen("credit")}>Give credit</Button>
            {account.suspended ? (
              <Button isDisabled={resume.isPending} onPress={() => resume.mutate()}>Resume</Button>
            ) : (
              <Button look="danger" onPress={() => setOpen("suspend")}>Suspend</Button>
            )}
          </div>
        )
      }
    >
      <ErrorNote error={resume.error} />
      {details.data ? (
        <Details data={details.data} />
      ) : (
        <Card>
          <Loaded query={details}>{() => null}</Loaded>
        </Card>
      )}
      {open === "suspend" && <Suspend accountId={accountId} onClose={close} />}
      {open === "credit" && <GiveCredit accountId={accountId} onClose={close} />}
    </OperatorPage>
  );
}
