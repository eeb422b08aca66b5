/** Paying: a top-up, automatic refills with their state, what was paid and what of it went back. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { api, bodyOf, type Schemas } from "../api/client";
import { paymentsQuery, refillQuery } from "../api/queries";
import { dollars, time, words } from "../format";
import { Button, Field, Sheet } from "./controls";
import { ErrorNote, Nothing } from "./feedback";
import { Card, type Column, DataTable } from "./layout";

const STATES: Record<string, string> = {
  off: "Off.",
  switched_off: "Switched off by itself",
  no_card: "No card is saved yet: top up once and tick “Keep this card”.",
  needs_action: "Your bank wants you to confirm the last refill. Confirm it, and refills go on.",
  charging: "The card is being charged.",
  waiting: "On. The card is charged when the balance falls below the threshold.",
  cooling_down: "Pausing after the last charge",
  day_ceiling: "Today's ceiling is reached",
  month_ceiling: "This month's ceiling is reached",
  due: "About to charge the card.",
};

/** Opens the page on which an amount is paid, and goes there. */
function useCheckout() {
  return useMutation({
    mutationFn: async (body: Schemas["TopUpIn"]) =>
      bodyOf(await api.POST("/api/top-ups", { body })),
    onSuccess: (opened) => window.location.assign(opened.checkout_url),
  });
}

export function TopUpButton() {
  const payments = useQuery(paymentsQuery);
  const [isOpen, setOpen] = useState(false);
  const [amount, setAmount] = useState("20");
  const [keep, setKeep] = useState(true);
  const start = useCheckout();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start.mutate({ amount_usd: amount, save_card: keep });
  };
  if (!payments.data?.enabled) return null;
  return (
    <>
      <Button look="primary" onPress={() => setOpen(true)}>
        Top up
      </Button>
      <Sheet title="Top up" isOpen={isOpen} onClose={() => setOpen(false)}>
        <form onSubmit={submit} className="space-y-4">
          <TestMode />
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

/** Said once on a page, and again where somebody is about to pay. */
export function TestMode() {
  const payments = useQuery(paymentsQuery);
  if (!payments.data?.test_mode) return null;
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

const CHARGES: Record<string, string> = {
  started: "being charged",
  processing: "being charged",
  succeeded: "paid",
  needs_action: "to be confirmed by you",
  declined: "declined",
  abandoned: "given up: no answer",
};

const CHARGE_COLUMNS: Column<Schemas["RefillChargeOut"]>[] = [
  { title: "When", cell: (row) => <span className="whitespace-nowrap">{time(row.started_at)}</span> },
  { title: "State", cell: (row) => CHARGES[row.status] ?? row.status },
  { title: "Why", cell: (row) => words(row.failure_code), wide: true },
  { title: "Amount", align: "right", cell: (row) => dollars(row.amount_usd) },
];

/** A checkout with the owner present, which saves the card anew. */
function ConfirmRefill({ amount }: { amount: string }) {
  const start = useCheckout();
  return (
    <>
      <Button
        look="primary"
        isDisabled={start.isPending}
        onPress={() => start.mutate({ amount_usd: amount, save_card: true })}
      >
        Confirm {dollars(amount)} now
      </Button>
      <ErrorNote error={start.error} />
    </>
  );
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
        {refill.state === "needs_action" && <ConfirmRefill amount={refill.amount_usd} />}
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
      {refill.charges.length > 0 && (
        <div className="border-t border-line">
          <DataTable
            label="Automatic charges"
            columns={CHARGE_COLUMNS}
            rows={refill.charges}
            keyOf={(row) => row.refill_id}
          />
        </div>
      )}
    </Card>
  );
}

type Row = {
  id: string;
  at: string;
  what: string;
  status: string;
  why: string;
  amount: string;
  paymentId: string;
};

const COLUMNS: Column<Row>[] = [
  { title: "When", cell: (row) => <span className="whitespace-nowrap">{time(row.at)}</span> },
  { title: "What", cell: (row) => row.what, wide: true },
  { title: "State", cell: (row) => row.status },
  { title: "Why", cell: (row) => words(row.why), wide: true },
  {
    title: "Receipt",
    cell: (row) =>
      row.paymentId && (
        <a
          href={`/api/payments/${encodeURIComponent(row.paymentId)}/receipt`}
          target="_blank"
          rel="noreferrer"
          className="underline"
        >
          Receipt
        </a>
      ),
    wide: true,
  },
  { title: "Amount", align: "right", cell: (row) => dollars(row.amount) },
];

/** Top-ups and refills as they stand, refunds, disputes and credit beside them, newest first. */
function rowsOf(found: Schemas["PaymentsOut"]): Row[] {
  const rows: Row[] = [
    ...found.top_ups.map((one) => ({
      id: one.top_up_id,
      at: one.started_at,
      what: "Top-up",
      status: one.status,
      why: one.reason,
      amount: one.amount_usd,
      paymentId: one.status === "paid" ? one.payment_id : "",
    })),
    ...found.payments
      .filter((one) => one.kind === "refill")
      .map((one) => ({
        id: one.payment_id,
        at: one.received_at,
        what: "Automatic refill",
        status: "paid",
        why: "",
        amount: one.amount_usd,
        paymentId: one.payment_id,
      })),
    ...found.reversals.map((one) => ({
      id: one.reversal_id,
      at: one.since,
      what: one.kind === "refund" ? "Refund" : "Dispute",
      status: one.status,
      why: one.reason,
      amount: one.amount_usd,
      paymentId: "",
    })),
    ...found.promos.map((one) => ({
      id: one.promo_id,
      at: one.granted_at,
      what: "Promotional credit",
      status: one.expires_at ? `until ${time(one.expires_at)}` : "granted",
      why: one.reason,
      amount: one.amount_usd,
      paymentId: "",
    })),
  ];
  return rows.sort((one, other) => other.at.localeCompare(one.at));
}

export function PaymentsCard() {
  const payments = useQuery(paymentsQuery);
  if (!payments.data) return null;
  const rows = rowsOf(payments.data);
  return (
    <Card title="Payments">
      {rows.length ? (
        <DataTable label="Payments" columns={COLUMNS} rows={rows} keyOf={(row) => row.id} />
      ) : (
        <Nothing title="Nothing was paid yet">Top up to see it here.</Nothing>
      )}
      <Statements />
    </Card>
  );
}

/** A month's statement and entries as files. */
function Statements() {
  const [month, setMonth] = useState(new Date().toISOString().slice(0, 7));
  return (
    <p className="flex flex-wrap items-center gap-3 border-t border-line p-4 text-sm">
      <label className="flex items-center gap-2">
        Statement of
        <input
          type="month"
          value={month}
          max={new Date().toISOString().slice(0, 7)}
          onChange={(event) => event.target.value && setMonth(event.target.value)}
          className="rounded-lg border border-line bg-surface px-2 py-1"
        />
      </label>
      {(["pdf", "html", "csv"] as const).map((form) => (
        <a
          key={form}
          href={`/api/statements/${month}/${form}`}
          className="underline"
          download
        >
          {form.toUpperCase()}
        </a>
      ))}
    </p>
  );
}

function positive(text: string, otherwise: string): string {
  return Number(text) > 0 ? text : otherwise;
}
