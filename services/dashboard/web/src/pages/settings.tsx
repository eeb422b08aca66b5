/** The person's password and sessions, the account's members, and who did what. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";

import type { Schemas } from "../api/client";
import { teamsQuery } from "../api/limits";
import {
  auditQuery,
  membersQuery,
  sessionQuery,
  sessionsQuery,
  useEraseContents,
  useRevokeSession,
} from "../api/queries";
import { Button } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page } from "../components/layout";
import { Members } from "../components/members";
import { Password } from "../components/password";
import { plural, time } from "../format";

function Sessions() {
  const sessions = useQuery(sessionsQuery);
  const revoke = useRevokeSession();
  const columns: Column<Schemas["SignedIn"]>[] = [
    {
      title: "Browser",
      cell: (row) => (
        <span className="line-clamp-1 max-w-md" title={row.user_agent}>
          {row.is_this ? "This one" : row.user_agent || "unknown"}
        </span>
      ),
    },
    { title: "Since", cell: (row) => time(row.started_at) },
    { title: "Until", cell: (row) => time(row.expires_at), wide: true },
    {
      title: "Actions",
      align: "right",
      cell: (row) =>
        !row.is_this && (
          <Button look="danger" isDisabled={revoke.isPending} onPress={() => revoke.mutate(row.session_id)}>
            End
          </Button>
        ),
    },
  ];
  return (
    <Card title="Where you are logged in">
      <ErrorNote error={sessions.error ?? revoke.error} />
      {sessions.data ? (
        <DataTable label="Sessions" columns={columns} rows={sessions.data} keyOf={(row) => row.session_id} />
      ) : (
        sessions.isPending && <Waiting rows={2} />
      )}
    </Card>
  );
}

/** `accounts.KeyIssued` as words: Key issued. */
function said(type: string): string {
  const spaced = type.replace("accounts.", "").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return spaced.charAt(0).toUpperCase() + spaced.slice(1);
}

type Details = { email?: string; user_agent?: string; name?: unknown; masked_key?: string; reason?: unknown; role?: unknown };

/** What an entry is about, as people call it: an address, a name, a masked key; its id where it has no such thing. */
function about(row: Schemas["AuditEventOut"], names: Map<string, string>): string {
  let details: Details = {};
  try {
    details = JSON.parse(row.details_json) as Details;
  } catch {
    // Shown by its id.
  }
  const known = details.email ?? details.masked_key ?? names.get(row.subject) ?? (details.user_agent || undefined);
  return known ?? (typeof details.name === "string" ? details.name : row.subject);
}

function auditColumns(names: Map<string, string>): Column<Schemas["AuditEventOut"]>[] {
  return [
    { title: "When", cell: (row) => <span className="sm:whitespace-nowrap">{time(row.occurred_at)}</span> },
    { title: "What", cell: (row) => said(row.type) },
    {
      title: "About",
      cell: (row) => <span className="block max-w-28 truncate sm:max-w-60 lg:max-w-96" title={row.subject}>{about(row, names)}</span>,
    },
    {
      title: "Who",
      cell: (row) => <span className="break-all" title={row.actor}>{names.get(row.actor) ?? row.actor}</span>,
      wide: true,
    },
  ];
}

function Audit() {
  const audit = useInfiniteQuery(auditQuery);
  const members = useQuery(membersQuery);
  const teams = useQuery(teamsQuery);
  const names = new Map([
    ["account", "The account"],
    ["operator", "The operator"],
    ...(members.data ?? []).map((one): [string, string] => [one.user_id, one.name || one.email]),
    ...(members.data ?? []).map((one): [string, string] => [`member:${one.user_id}`, one.name || one.email]),
    ...(teams.data ?? []).map((one): [string, string] => [`team:${one.team_id}`, `Team ${one.name}`]),
  ]);
  const events = audit.data?.pages.flatMap((page) => page.events) ?? [];
  return (
    <Card title="Who did what">
      <ErrorNote error={audit.error} />
      {audit.isPending ? (
        <Waiting />
      ) : events.length ? (
        <>
          <DataTable label="Audit trail" columns={auditColumns(names)} rows={events} keyOf={(row) => row.event_id} />
          {audit.hasNextPage && (
            <div className="border-t border-line p-3 text-center">
              <Button isDisabled={audit.isFetchingNextPage} onPress={() => void audit.fetchNextPage()}>Older</Button>
            </div>
          )}
        </>
      ) : (
        <Nothing unless={audit.error} title="Nothing yet" />
      )}
    </Card>
  );
}

function Contents() {
  const erase = useEraseContents();
  return (
    <Card title="Stored prompts and answers">
      <div className="space-y-3 p-4">
        <ErrorNote error={erase.error} />
        <p className="text-muted">
          Stored for the keys that say so, for as long as the operator keeps them. Erasing cannot be taken back.
        </p>
        {erase.data && <p role="status" className="text-good">Erased, of {plural(erase.data.erased, "request")}.</p>}
        <Button isDisabled={erase.isPending} onPress={() => erase.mutate()}>
          Erase all of them
        </Button>
      </div>
    </Card>
  );
}

export function SettingsPage() {
  const session = useQuery(sessionQuery);
  const role = session.data?.role;
  return (
    <Page title="Settings" about={session.data ? `${session.data.email}, ${role} of ${session.data.account_name}` : ""}>
      <Members mayChange={role === "owner" || role === "admin"} ownEmail={session.data?.email ?? ""} />
      <Sessions />
      <Password />
      {(role === "owner" || role === "admin") && <Contents />}
      <Audit />
    </Page>
  );
}
