/** What the account was told of, when it is told, and where else that is sent. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { api, bodyOf, type Schemas } from "../api/client";
import { alertsQuery, deliveriesQuery, rulesQuery, useChanging, webhooksQuery } from "../api/limits";
import { keysQuery, sessionQuery } from "../api/queries";
import { Button, Copyable, Field, Sheet } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Badge, Card, type Column, DataTable, Page } from "../components/layout";
import { ago, dollars, time } from "../format";

type Alert = Schemas["AlertOut"];
type Rule = Schemas["RuleOut"];
type Webhook = Schemas["WebhookOut"];
type Delivery = Schemas["DeliveryOut"];

const KINDS: Record<string, { title: string; about: string; field: string }> = {
  balance_low: { title: "Balance is low", about: "Told when less than this is available.", field: "Below, in USD" },
  spend_cap: { title: "A cap is nearly spent", about: "Told at 80, 95 and 100 % of each cap.", field: "" },
  spend_rate: { title: "Spending is fast", about: "Told when an hour at the present pace would cost more.", field: "Above, USD an hour" },
  error_rate: { title: "Many requests fail", about: "Told when more than this share fails.", field: "Above, percent" },
};

function written(alert: Alert, value: string): string {
  if (alert.unit === "percent") return `${value} %`;
  return alert.unit === "usd" ? dollars(value) : `${dollars(value)} an hour`;
}

const RISING: Record<string, string> = {
  "spend_cap.approaching": "A cap is nearly spent",
  "spend_cap.hit": "A cap is reached",
};

function Alerts() {
  const alerts = useQuery(alertsQuery);
  const keys = useQuery(keysQuery);
  const subject = (name: string) => {
    if (name === "wallet" || name === "account") return "The account";
    const key = keys.data?.find((one) => name === `key:${one.key_id}`);
    return key ? `Key ${key.label}` : name;
  };
  const columns: Column<Alert>[] = [
    {
      title: "State",
      cell: (row) => (row.resolved_at ? <Badge tone="good">Resolved</Badge> : <Badge tone="bad">Firing</Badge>),
    },
    {
      title: "What",
      cell: (row) => (
        <div>
          <p className="font-medium">{RISING[row.event_type] ?? KINDS[row.kind]?.title ?? row.event_type}</p>
          <p className="break-all text-xs text-muted">{subject(row.subject)}</p>
        </div>
      ),
    },
    { title: "Was", cell: (row) => written(row, row.value), align: "right" },
    { title: "Threshold", cell: (row) => written(row, row.threshold), align: "right", wide: true },
    { title: "Since", cell: (row) => <span title={time(row.since)}>{ago(row.since)}</span> },
    { title: "Resolved", cell: (row) => (row.resolved_at ? time(row.resolved_at) : "–"), wide: true },
  ];
  return (
    <Card title="Alerts">
      <ErrorNote error={alerts.error} />
      {alerts.isPending ? (
        <Waiting />
      ) : alerts.data?.length ? (
        <DataTable label="Alerts" columns={columns} rows={alerts.data} keyOf={(row) => row.alert_id} />
      ) : (
        !alerts.error && <Nothing unless={alerts.error} title="All is quiet">What the rules below notice is listed here.</Nothing>
      )}
    </Card>
  );
}

function RuleForm({ rule, mayChange }: { rule: Rule; mayChange: boolean }) {
  const kind = KINDS[rule.kind] ?? { title: rule.kind, about: "", field: "Threshold" };
  const over = rule.kind === "spend_rate" || rule.kind === "error_rate";
  const save = useChanging(
    async (body: Schemas["RuleIn"]) =>
      bodyOf(await api.PUT("/api/alert-rules/{kind}", { params: { path: { kind: rule.kind } }, body })),
    "alert-rules",
  );
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const text = (name: string) => String(form.get(name) ?? "").trim();
    save.mutate({
      enabled: form.get("enabled") !== null,
      threshold: text("threshold"),
      window_s: over ? Number(text("minutes")) * 60 : rule.window_s,
      min_requests: rule.kind === "error_rate" ? Number(text("least")) : rule.min_requests,
    });
  };
  return (
    <form className="space-y-3 p-4" onSubmit={submit} aria-label={kind.title}>
      <fieldset disabled={!mayChange} className="flex flex-wrap items-end gap-x-4 gap-y-3">
        <div className="min-w-56 flex-1 self-center">
          <label className="flex items-center gap-2 font-medium">
            <input type="checkbox" name="enabled" defaultChecked={rule.enabled} className="size-4 accent-accent" />
            {kind.title}
          </label>
          <p className="mt-0.5 pl-6 text-xs text-muted">{kind.about}</p>
        </div>
        {rule.kind !== "spend_cap" && (
          <div className="w-36"><Field name="threshold" label={kind.field} defaultValue={rule.threshold} isRequired isDisabled={!mayChange} /></div>
        )}
        {over && (
          <div className="w-36">
            <Field name="minutes" label="Over, in minutes" defaultValue={String(rule.window_s / 60)} pattern="[0-9]+" inputMode="numeric" isRequired isDisabled={!mayChange} />
          </div>
        )}
        {rule.kind === "error_rate" && (
          <div className="w-36">
            <Field name="least" label="Of requests, at least" defaultValue={String(rule.min_requests)} pattern="[0-9]+" inputMode="numeric" isRequired isDisabled={!mayChange} />
          </div>
        )}
        {mayChange && (
          <Button type="submit" aria-label={`Save: ${kind.title}`} isDisabled={save.isPending}>Save</Button>
        )}
      </fieldset>
      <ErrorNote error={save.error} />
      {save.isSuccess && <p role="status" className="text-good">Saved.</p>}
    </form>
  );
}

function Rules({ mayChange }: { mayChange: boolean }) {
  const rules = useQuery(rulesQuery);
  return (
    <Card title="Rules">
      <ErrorNote error={rules.error} />
      {rules.isPending && <Waiting />}
      <div className="divide-y divide-line">
        {(rules.data ?? []).map((rule) => <RuleForm key={rule.kind} rule={rule} mayChange={mayChange} />)}
      </div>
    </Card>
  );
}

function Secret({ secret, onClose }: { secret: string; onClose: () => void }) {
  return (
    <>
      <p>Copy the secret now: it is not shown again. Your server checks the signature of each alert with it.</p>
      <Copyable label="the secret" text={secret} />
      <div className="flex justify-end"><Button look="primary" onPress={onClose}>Done</Button></div>
    </>
  );
}

/** What an endpoint may be told of; the names are those in the letters it gets. */
const EVENTS: [string, string][] = [
  ["balance.low", "Balance is low"],
  ["balance.recovered", "Balance recovered"],
  ["spend_cap.approaching", "A cap is nearly spent"],
  ["spend_cap.hit", "A cap is reached"],
  ["spend_cap.recovered", "A cap has room again"],
  ["spend_rate.high", "Spending is fast"],
  ["spend_rate.recovered", "Spending slowed down"],
  ["error_rate.high", "Many requests fail"],
  ["error_rate.recovered", "Fewer requests fail"],
];

function EventChoice({ chosen, onChange }: { chosen: string[]; onChange: (chosen: string[]) => void }) {
  return (
    <fieldset>
      <legend className="mb-1 font-medium">Tell it of</legend>
      <div className="grid gap-x-4 gap-y-1 sm:grid-cols-2">
        {EVENTS.map(([name, text]) => (
          <label key={name} className="flex items-center gap-2 py-0.5">
            <input
              type="checkbox"
              checked={chosen.includes(name)}
              onChange={(event) =>
                onChange(event.target.checked ? [...chosen, name] : chosen.filter((one) => one !== name))
              }
              className="size-4 accent-accent"
            />
            {text}
          </label>
        ))}
      </div>
      {chosen.length === 0 && <p role="alert" className="mt-1 text-xs text-bad">Choose at least one.</p>}
    </fieldset>
  );
}

function AddWebhook({ onMade, onClose }: { onMade: (secret: string) => void; onClose: () => void }) {
  const create = useChanging(
    async (body: Schemas["WebhookIn"]) => bodyOf(await api.POST("/api/webhooks", { body })),
    "webhooks",
  );
  const [chosen, setChosen] = useState(EVENTS.map(([name]) => name));
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const url = String(new FormData(event.currentTarget).get("url")).trim();
    // Every one of them stands for all, also those that a later version tells of.
    const event_types = chosen.length === EVENTS.length ? [] : chosen;
    create.mutate({ url, event_types }, { onSuccess: (made) => onMade(made.secret) });
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={create.error} />
      <Field name="url" label="URL" hint="Each alert is posted there as JSON, signed." placeholder="https://example.com/mesh" isRequired autoFocus />
      <EventChoice chosen={chosen} onChange={setChosen} />
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Cancel</Button>
        <Button look="primary" type="submit" isDisabled={create.isPending || chosen.length === 0}>Add</Button>
      </div>
    </form>
  );
}

const TONES: Record<string, "good" | "bad" | "warn"> = { delivered: "good", failed: "bad", pending: "warn" };

function Deliveries({ hooks }: { hooks: Webhook[] }) {
  const deliveries = useQuery(deliveriesQuery);
  const urls = new Map(hooks.map((one) => [one.endpoint_id, one.url]));
  const columns: Column<Delivery>[] = [
    { title: "State", cell: (row) => <Badge tone={TONES[row.state] ?? "warn"}>{row.state}</Badge> },
    { title: "To", cell: (row) => <span className="break-all">{urls.get(row.endpoint_id) ?? row.endpoint_id}</span> },
    { title: "Attempts", cell: (row) => row.attempts, align: "right" },
    { title: "Last answer", cell: (row) => row.last_error || row.last_status || "–", wide: true },
    { title: "Next attempt", cell: (row) => (row.next_at ? time(row.next_at) : "–"), wide: true },
  ];
  return (
    <Card title="Deliveries">
      <ErrorNote error={deliveries.error} />
      {deliveries.data?.length ? (
        <DataTable label="Deliveries" columns={columns} rows={deliveries.data} keyOf={(row) => row.delivery_id} />
      ) : (
        <Nothing unless={deliveries.error} title="Nothing was sent yet" />
      )}
    </Card>
  );
}

function Webhooks() {
  const hooks = useQuery(webhooksQuery);
  const [adding, setAdding] = useState(false);
  const [secret, setSecret] = useState("");
  const path = (id: string) => ({ params: { path: { endpoint_id: id } } });
  const rotate = useChanging(
    async (id: string) => bodyOf(await api.POST("/api/webhooks/{endpoint_id}/rotate", path(id))),
    "webhooks",
  );
  const remove = useChanging(
    async (id: string) => {
      await api.DELETE("/api/webhooks/{endpoint_id}", path(id));
    },
    "webhooks",
    "webhook-deliveries",
  );
  const close = () => {
    setAdding(false);
    setSecret("");
  };
  const columns: Column<Webhook>[] = [
    {
      title: "URL",
      cell: (row) => (
        <div>
          <p className="break-all font-mono text-xs">{row.url}</p>
          {row.old_secret_until && <p className="text-xs text-muted">the old secret signs until {time(row.old_secret_until)}</p>}
        </div>
      ),
    },
    {
      title: "Told of",
      cell: (row) =>
        row.event_types.length
          ? EVENTS.filter(([name]) => row.event_types.includes(name)).map(([, text]) => text).join(", ")
          : "Everything",
      wide: true,
    },
    { title: "Since", cell: (row) => time(row.created_at), wide: true },
    {
      title: "Actions",
      align: "right",
      cell: (row) => (
        <span className="inline-flex flex-wrap justify-end gap-2">
          <Button
            aria-label={`Rotate the secret of ${row.url}`}
            isDisabled={rotate.isPending}
            onPress={() => rotate.mutate(row.endpoint_id, { onSuccess: (made) => setSecret(made.secret) })}
          >
            Rotate
          </Button>
          <Button aria-label={`Remove ${row.url}`} look="danger" isDisabled={remove.isPending} onPress={() => remove.mutate(row.endpoint_id)}>
            Remove
          </Button>
        </span>
      ),
    },
  ];
  return (
    <>
      <Card title="Webhooks">
        <ErrorNote error={hooks.error ?? rotate.error ?? remove.error} />
        {hooks.isPending ? (
          <Waiting rows={2} />
        ) : hooks.data?.length ? (
          <DataTable label="Webhooks" columns={columns} rows={hooks.data} keyOf={(row) => row.endpoint_id} />
        ) : (
          <Nothing unless={hooks.error} title="No webhooks yet">Alerts can be posted to a server of yours.</Nothing>
        )}
        <div className="border-t border-line p-3">
          <Button onPress={() => setAdding(true)}>Add a webhook</Button>
        </div>
        <Sheet title={secret ? "The new secret" : "Add a webhook"} isOpen={adding || secret !== ""} onClose={close}>
          {secret ? <Secret secret={secret} onClose={close} /> : <AddWebhook onMade={setSecret} onClose={close} />}
        </Sheet>
      </Card>
      <Deliveries hooks={hooks.data ?? []} />
    </>
  );
}

export function AlertsPage() {
  const session = useQuery(sessionQuery);
  const mayChange = session.data?.role === "owner" || session.data?.role === "admin";
  return (
    <Page title="Alerts" about="What the account is told of its money and its errors.">
      <Alerts />
      <Rules mayChange={mayChange} />
      {mayChange && <Webhooks />}
    </Page>
  );
}
