/** Paying: a top-up, automatic refills with their state, what was paid, statements. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { api, bodyOf, type Schemas } from "../api/client";
import { paymentsQuery, refillQuery } from "../api/queries";
import { dollars, time } from "../format";
import { Button, Field, Sheet } from "./controls";
import { ErrorNote, Nothing } from "./feedback";
import { Card, type Column, DataTable } from "./layout";

const STATES: Record<string, string> = {
  off: "Off.",
  switched_off: "Switched off by itself",
  no_card: "No card is saved yet: top up once and tick “Keep this card”.",
  needs_action: "Your bank wants you to confirm: top up once and keep the card, then refills go on.",
  charging: "The card is being charged.",
  waiting: "On. The card is charged when the balance falls below the threshold.",
  cooling_down: "Pausing after the last charge",
  day_ceiling: "Today's ceiling is reached",
  month_ceiling: "This month's ceiling is reached",
  due: "About to charge the card.",
};

export function TopUpButton() {
  const payments = useQuery(paymentsQuery);
  const [isOpen, setOpen] = useState(false);
  const [amount, setAmount] = useState("20");
  const [keep, setKeep] = useState(true);
  const start = useMutation({
    mutationFn: async () =>
      bodyOf(await api.POST("/api/top-ups", { body: { amount_usd: amount, save_card: keep } })),
    onSuccess: (opened) => window.location.assign(opened.checkout_url),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start.mutate();
  };
  if (!payments.data?.enabled) return null;
  return (
    <>
      <Button look="primary" onPress={() => setOpen(true)}>
        Top up
      </Button>
      <Sheet title="Top up" isOpen={isOpen} onClose={() => setOpen(false)}>
        <form onSubmit={submit} className="space-y-4">
          {payments.data.test_mode && <TestMode />}
          <Field
            label="Amount in USD"
            hint={`From $${payments.data.least_usd} to $${payments.data.most_usd}.`}
            value={amount}
            onChange={setAmount}
            isRequired
          />
          <label className="flex items-center gap-2">
            <input type="checkbox" checked={keep} onChange={(e) => setKeep(e.target.checked)} />
            Keep this card for automatic refills
          </label>
          <ErrorNote error={start.error} />
          <Button look="primary" type="submit" isDisabled={start.isPending}>
            Continue to payment
          </Button>
        </form>
      </Sheet>
    </>
  );
}

function TestMode() {
  return (
    <p className="rounded-lg border border-line bg-canvas px-3 py-2 text-sm">
      <strong>TEST MODE.</strong> Payments are simulated; no money moves.
    </p>
  );
}

export function RefillCard() {
  const refill = useQuery(refillQuery);
  if (!refill.data) return null;
  return <RefillForm key={String(refill.isSuccess)} refill={refill.data} />;
}

function RefillForm({ refill }: { refill: Schemas["RefillOut"] }) {
  const client = useQueryClient();
  const [form, setForm] = useState({
    threshold_usd: positive(refill.threshold_usd, "10"),
    amount_usd: positive(refill.amount_usd, "20"),
    day_max_usd: positive(refill.day_max_usd, "100"),
    month_max_usd: positive(refill.month_max_usd, "500"),
  });
  const save = useMutation({
    mutationFn: async (enabled: boolean) =>
      bodyOf(await api.PUT("/api/refill", { body: { ...form, enabled } })),
    onSuccess: (after) => client.setQueryData(["refill"], after),
  });
  const field = (name: keyof typeof form, label: string) => (
    <Field
      label={label}
      value={form[name]}
      onChange={(value) => setForm({ ...form, [name]: value })}
    />
  );
  const until = refill.until ? ` until ${time(refill.until)}.` : "";
  const why = refill.switched_off_because ? `: ${refill.switched_off_because}.` : "";
  return (
    <Card title="Automatic refill">
      <div className="space-y-4 p-4">
        <p role="status">
          {STATES[refill.state] ?? refill.state}
          {why}
          {until} {refill.card && <span className="text-muted">Card: {refill.card}</span>}
        </p>
        <div className="grid gap-3 sm:grid-cols-2 lg:grid-cols-4">
          {field("threshold_usd", "When below, in USD")}
          {field("amount_usd", "Charge, in USD")}
          {field("day_max_usd", "At most in a day")}
          {field("month_max_usd", "At most in a month")}
        </div>
        <ErrorNote error={save.error} />
        <div className="flex gap-2">
          <Button look="primary" isDisabled={save.isPending} onPress={() => save.mutate(true)}>
            {refill.enabled ? "Save refill" : "Switch refill on"}
          </Button>
          {refill.enabled && (
            <Button isDisabled={save.isPending} onPress={() => save.mutate(false)}>
              Switch off
            </Button>
          )}
        </div>
      </div>
    </Card>
  );
}

type Row = { id: string; at: string; what: string; status: string; amount: string };

const COLUMNS: Column<Row>[] = [
  { title: "When", cell: (row) => <span className="whitespace-nowrap">{time(row.at)}</span> },
  { title: "What", cell: (row) => row.what, wide: true },
  { title: "State", cell: (row) => row.status },
  { title: "Amount", align: "right", cell: (row) => dollars(row.amount) },
];

/** Top-ups and refills as they stand, refunds and disputes beside them, newest first. */
function rowsOf(found: Schemas["PaymentsOut"]): Row[] {
  const rows: Row[] = [
    ...found.top_ups.map((one) => ({
      id: one.top_up_id,
      at: one.started_at,
      what: "Top-up",
      status: one.status,
      amount: one.amount_usd,
    })),
    ...found.payments
      .filter((one) => one.kind === "refill")
      .map((one) => ({
        id: one.payment_id,
        at: one.received_at,
        what: "Automatic refill",
        status: "paid",
        amount: one.amount_usd,
      })),
    ...found.reversals.map((one) => ({
      id: one.reversal_id,
      at: one.since,
      what: one.kind === "refund" ? "Refund" : "Dispute",
      status: one.status,
      amount: one.amount_usd,
    })),
  ];
  return rows.sort((one, other) => other.at.localeCompare(one.at));
}

export function PaymentsCard() {
  const payments = useQuery(paymentsQuery);
  if (!payments.data) return null;
  const rows = rowsOf(payments.data);
  const month = new Date().toISOString().slice(0, 7);
  return (
    <Card title="Payments">
      {payments.data.test_mode && (
        <div className="p-4 pb-0">
          <TestMode />
        </div>
      )}
      {rows.length ? (
        <DataTable label="Payments" columns={COLUMNS} rows={rows} keyOf={(row) => row.id} />
      ) : (
        <Nothing title="Nothing was paid yet">Top up to see it here.</Nothing>
      )}
      <p className="border-t border-line p-4 text-sm">
        Statement of {month}:{" "}
        {(["pdf", "html", "csv"] as const).map((form) => (
          <a
            key={form}
            href={`/api/statements/${month}/${form}`}
            className="mr-3 underline"
            download
          >
            {form.toUpperCase()}
          </a>
        ))}
      </p>
    </Card>
  );
}

function positive(text: string, otherwise: string): string {
  return Number(text) > 0 ? text : otherwise;
}
