/** API keys: create, see what each has spent, suspend. */
import { useQuery } from "@tanstack/react-query";
import { Plus } from "lucide-react";
import { type FormEvent, useState } from "react";

import type { Schemas } from "../api/client";
import { keysQuery, sessionQuery, useCreateKey, useKeyAction } from "../api/queries";
import { Button, Copyable, Field, Sheet } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page } from "../components/layout";
import { dollars, time } from "../format";
import { snippet } from "./overview";

type Row = Schemas["KeyOut"];

/** How much of the cap is spent or held, in percent; only for the width of a bar. */
function share(row: Row): number {
  const cap = Number(row.spend_cap_usd);
  if (row.spend_cap_usd === null) return 0;
  if (cap === 0) return 100;
  return Math.min(100, (100 * (Number(row.spent_usd) + Number(row.held_usd))) / cap);
}

function Spend({ row }: { row: Row }) {
  if (row.spend_cap_usd === null) return <span>{dollars(row.spent_usd)} of no cap</span>;
  return (
    <div className="min-w-36 space-y-1">
      <span>
        {dollars(row.spent_usd)} of {dollars(row.spend_cap_usd)}
        {row.spend_cap_window !== "lifetime" && ` a ${row.spend_cap_window.replaceAll("_", " ")}`}
      </span>
      <progress
        aria-label={`Spend of ${row.label} against its cap`}
        max={100}
        value={share(row)}
        className="block h-1.5 w-full overflow-hidden rounded accent-accent"
      />
    </div>
  );
}

function Suspend({ row }: { row: Row }) {
  const action = useKeyAction();
  return (
    <Button
      look={row.suspended ? "quiet" : "danger"}
      isDisabled={action.isPending}
      onPress={() =>
        action.mutate({ keyId: row.key_id, action: row.suspended ? "resume" : "suspend" })
      }
    >
      {row.suspended ? "Resume" : "Suspend"}
    </Button>
  );
}

const COLUMNS: Column<Row>[] = [
  {
    title: "Key",
    cell: (row) => (
      <div>
        <p className="font-medium">{row.label}</p>
        <p className="font-mono text-xs text-muted">{row.masked_key}</p>
      </div>
    ),
  },
  {
    title: "State",
    cell: (row) => (
      <span className={row.suspended ? "text-bad" : "text-good"}>
        {row.suspended ? "Suspended" : "Active"}
      </span>
    ),
  },
  { title: "Spend", cell: (row) => <Spend row={row} />, wide: true },
  { title: "Default model", cell: (row) => row.default_model || "–", wide: true },
  { title: "Created", cell: (row) => time(row.created_at), wide: true },
  { title: "", cell: (row) => <Suspend row={row} />, align: "right" },
];

function Created({ made, onClose }: { made: Schemas["KeyCreated"]; onClose: () => void }) {
  const session = useQuery(sessionQuery);
  return (
    <>
      <p>Copy the secret now: it is not shown again. It works everywhere within a second.</p>
      <Copyable label="the secret" text={made.secret} />
      <Copyable
        label="the command"
        text={`export MESH_API_KEY=${made.secret}\n${snippet(session.data?.public_api_url ?? "")}`}
      />
      <div className="flex justify-end">
        <Button look="primary" onPress={onClose}>
          Done
        </Button>
      </div>
    </>
  );
}

function CreateKey({ onClose }: { onClose: () => void }) {
  const create = useCreateKey();
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const cap = String(form.get("cap")).trim();
    create.mutate({
      label: String(form.get("label")).trim(),
      spend_cap_usd: cap === "" ? null : cap,
      spend_cap_window: "lifetime",
      default_model: String(form.get("model")).trim(),
      allowed_models: [],
    });
  };
  if (create.data) return <Created made={create.data} onClose={onClose} />;
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={create.error} />
      <Field name="label" label="Label" isRequired autoFocus maxLength={100} />
      <Field
        name="cap"
        label="Spend cap in USD"
        hint="Leave it empty for none; 0 allows free models only."
        pattern="[0-9]+([.][0-9]{1,9})?"
      />
      <Field name="model" label="Default model" hint="Used where a request names none." />
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Cancel</Button>
        <Button look="primary" type="submit" isDisabled={create.isPending}>
          Create key
        </Button>
      </div>
    </form>
  );
}

export function KeysPage() {
  const keys = useQuery(keysQuery);
  const [creating, setCreating] = useState(false);
  const close = () => setCreating(false);
  return (
    <Page
      title="API Keys"
      about="A change is in force at every gateway within a second."
      actions={
        <Button look="primary" onPress={() => setCreating(true)}>
          <Plus aria-hidden className="size-4" /> Create key
        </Button>
      }
    >
      <ErrorNote error={keys.error} />
      <Card>
        {keys.isPending ? (
          <Waiting />
        ) : keys.data?.length ? (
          <DataTable label="API keys" columns={COLUMNS} rows={keys.data} keyOf={(k) => k.key_id} />
        ) : (
          <Nothing title="No keys yet">Create one to make the first request.</Nothing>
        )}
      </Card>
      <Sheet title="Create an API key" isOpen={creating} onClose={close}>
        <CreateKey onClose={close} />
      </Sheet>
    </Page>
  );
}
