/** API keys: what each may do, what each did; create, change, rotate, suspend. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { MoreHorizontal, Plus } from "lucide-react";
import { useMemo, useState } from "react";
import { Button as AriaButton, Menu, MenuItem, MenuTrigger, Popover } from "react-aria-components";

import type { Schemas } from "../api/client";
import {
  keysQuery,
  keyUsageQuery,
  sessionQuery,
  summaryQuery,
  useKeyAction,
  useFirstModel,
  useRotateKey,
} from "../api/queries";
import { DAY_MS, filled, HOUR_MS } from "../buckets";
import { Button, Copyable, Sheet } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { KeyForm } from "../components/key-form";
import { Badge, Card, type Column, DataTable, Page, type Tone } from "../components/layout";
import { rates, SpendBar } from "../components/limit-fields";
import { Snippets } from "../components/snippets";
import { Sparkline } from "../components/sparkline";
import { ago, count, nanoOf, percent, plural, time } from "../format";

type Row = Schemas["KeyOut"];
type Shown = { kind: "create" } | { kind: "edit"; row: Row } | { kind: "rotate"; row: Row } | { kind: "secret"; secret: string };

function state(row: Row): { text: string; tone: Tone } {
  if (row.suspended) return { text: "Suspended", tone: "bad" };
  if (row.expires_at && Date.parse(row.expires_at) <= Date.now()) return { text: "Expired", tone: "warn" };
  return { text: "Active", tone: "good" };
}

/** The last day of a key, hour by hour, and when it was last used. */
function Activity({ row }: { row: Row }) {
  const sinceMs = useMemo(() => Math.floor((Date.now() - DAY_MS) / HOUR_MS) * HOUR_MS, []);
  const usage = useQuery(keyUsageQuery(row.key_id, sinceMs, "hour"));
  if (!usage.data) return <span className="text-muted">…</span>;
  const values = filled(usage.data.buckets, { sinceMs, by: "hour" }).map(({ bucket }) => bucket?.requests ?? 0);
  return (
    <div>
      <Sparkline values={values} label={`${plural(usage.data.total.requests, "request")} in the last 24 hours`} />
      <p className="text-xs text-muted">{usage.data.last_used_at ? `used ${ago(usage.data.last_used_at)}` : "never used"}</p>
    </div>
  );
}

function Actions({ row, show }: { row: Row; show: (shown: Shown) => void }) {
  const action = useKeyAction();
  const item = "cursor-pointer rounded-md px-3 py-1.5 outline-none focus:bg-canvas";
  return (
    <MenuTrigger>
      <AriaButton aria-label={`Actions for ${row.label}`} className="rounded-lg p-1.5 text-muted hover:bg-canvas hover:text-ink">
        <MoreHorizontal aria-hidden className="size-4" />
      </AriaButton>
      <Popover placement="bottom end" className="min-w-40 rounded-xl border border-line bg-raised p-1 shadow-lg">
        <Menu
          className="outline-none"
          onAction={(name) => {
            if (name === "edit") show({ kind: "edit", row });
            else if (name === "rotate") show({ kind: "rotate", row });
            else if (name === "suspend" || name === "resume") action.mutate({ keyId: row.key_id, action: name });
          }}
        >
          <MenuItem id="edit" className={item}>Edit</MenuItem>
          <MenuItem id="rotate" className={item}>Rotate secret</MenuItem>
          {row.suspended ? (
            <MenuItem id="resume" className={item}>Resume</MenuItem>
          ) : (
            <MenuItem id="suspend" className={`${item} text-bad`}>Suspend</MenuItem>
          )}
        </Menu>
      </Popover>
    </MenuTrigger>
  );
}

function columns(buckets: Map<string, Schemas["BucketOut"]>, show: (shown: Shown) => void, mayChange: boolean): Column<Row>[] {
  return [
    {
      title: "Key",
      sort: (row) => row.label,
      cell: (row) => (
        <div>
          <p className="font-medium">{row.label}</p>
          <p className="font-mono text-xs text-muted">{row.masked_key}</p>
          {(rates(row) || row.default_model) && (
            <p className="text-xs text-muted">{[row.default_model, rates(row)].filter(Boolean).join(" · ")}</p>
          )}
        </div>
      ),
    },
    {
      title: "State",
      sort: (row) => state(row).text,
      cell: (row) => {
        const now = state(row);
        return (
          <div>
            <Badge tone={now.tone}>{now.text}</Badge>
            {row.expires_at && <p className="mt-1 text-xs text-muted">expires {time(row.expires_at)}</p>}
          </div>
        );
      },
    },
    { title: "Spend", sort: (row) => nanoOf(row.spent_usd ?? "0"), cell: (row) => <SpendBar row={row} of={row.label} />, wide: true },
    {
      title: "Requests, 30 days",
      sort: (row) => buckets.get(row.key_id)?.requests ?? 0,
      align: "right",
      wide: true,
      cell: (row) => {
        const bucket = buckets.get(row.key_id);
        return (
          <Link to="/logs" search={{ key_id: row.key_id }} className="hover:underline">
            {count(bucket?.requests ?? 0)}
            {bucket && bucket.requests > 0 && (
              <span className="block text-xs text-muted">
                {count(bucket.successful_requests)} served, {percent(bucket.requests - bucket.successful_requests, bucket.requests)} not
              </span>
            )}
          </Link>
        );
      },
    },
    { title: "Last 24 hours", cell: (row) => <Activity row={row} />, wide: true },
    ...(mayChange
      ? [{ title: "Actions", cell: (row: Row) => <Actions row={row} show={show} />, align: "right" as const }]
      : []),
  ];
}

function Secret({ secret, onClose }: { secret: string; onClose: () => void }) {
  const session = useQuery(sessionQuery);
  const model = useFirstModel();
  return (
    <>
      <p>Copy the secret now: it is not shown again. It works everywhere within a second.</p>
      <Copyable label="the secret" text={secret} />
      <p className="text-muted">
        Try it, and keep it where your program reads it, for instance as <code className="font-mono">MESH_API_KEY</code>:
      </p>
      <Snippets apiUrl={session.data?.public_api_url ?? ""} model={model} secret={secret} />
      <div className="flex justify-end">
        <Button look="primary" onPress={onClose}>Done</Button>
      </div>
    </>
  );
}

function Rotate({ row, show, onClose }: { row: Row; show: (shown: Shown) => void; onClose: () => void }) {
  const rotate = useRotateKey();
  return (
    <>
      <p>
        {row.label} gets a new secret, which is shown once. The old one works for one more day, so that nothing breaks
        while you put the new one in place.
      </p>
      <ErrorNote error={rotate.error} />
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Cancel</Button>
        <Button
          look="primary"
          isDisabled={rotate.isPending}
          onPress={() => rotate.mutate(row.key_id, { onSuccess: (made) => show({ kind: "secret", secret: made.secret }) })}
        >
          Rotate
        </Button>
      </div>
    </>
  );
}

const TITLES = {
  create: "Create an API key",
  edit: "Edit the key",
  rotate: "Rotate the secret",
  secret: "The new secret",
};

export function KeysPage() {
  const keys = useQuery(keysQuery);
  const session = useQuery(sessionQuery);
  const sinceMs = useMemo(() => Date.now() - 30 * DAY_MS, []);
  const usage = useQuery(summaryQuery({ since_ms: sinceMs }, "key", false));
  const [shown, show] = useState<Shown | null>(null);
  const close = () => show(null);
  const mayChange = session.data?.role !== "viewer";
  const buckets = new Map((usage.data?.buckets ?? []).map((bucket) => [bucket.value, bucket]));
  return (
    <Page
      title="API Keys"
      about="A change is in force at every gateway within a second."
      actions={
        mayChange && (
          <Button look="primary" onPress={() => show({ kind: "create" })}>
            <Plus aria-hidden className="size-4" /> Create key
          </Button>
        )
      }
    >
      <ErrorNote error={keys.error ?? usage.error} />
      <Card>
        {keys.isPending ? (
          <Waiting />
        ) : keys.data?.length ? (
          <DataTable label="API keys" chooser="keys" columns={columns(buckets, show, mayChange)} rows={keys.data} keyOf={(k) => k.key_id} />
        ) : (
          <Nothing unless={keys.error} title="No keys yet">Create one to make the first request.</Nothing>
        )}
      </Card>
      <Sheet title={shown ? TITLES[shown.kind] : ""} isOpen={shown !== null} onClose={close}>
        {shown?.kind === "create" && (
          <KeyForm onClose={close} onMade={(secret) => show({ kind: "secret", secret })} />
        )}
        {shown?.kind === "edit" && <KeyForm row={shown.row} onClose={close} />}
        {shown?.kind === "rotate" && <Rotate row={shown.row} show={show} onClose={close} />}
        {shown?.kind === "secret" && <Secret secret={shown.secret} onClose={close} />}
      </Sheet>
    </Page>
  );
}
