/** For staff: models and their prices. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { priceHistoryQuery, pricedModelsQuery, usePublishPrice } from "../api/operator";
import { Button, Field, Sheet } from "../components/controls";
import { ErrorNote, Nothing } from "../components/feedback";
import { Badge, Card, type Column, DataTable } from "../components/layout";
import { Loaded, OperatorPage } from "../components/operator-frame";
import { count, dollars, time } from "../format";

type Priced = Schemas["PricedModel"];
const MODELS_SHOWN_MAX = 100;

const rate = (one: Schemas["PriceOut"], kind: string) => dollars(one.usd_per_1m[kind] ?? "0");

const HISTORY: Column<Schemas["PriceOut"]>[] = [
  {
    title: "From",
    cell: (one) => (
      <div>
        <p>{one.valid_from ? time(one.valid_from) : "the beginning"}</p>
        <p className="break-all text-xs text-muted md:hidden">{one.source}</p>
      </div>
    ),
  },
  { title: "Prompt / 1M", cell: (one) => rate(one, "prompt"), align: "right", wide: true },
  { title: "Cached / 1M", cell: (one) => rate(one, "cached_prompt"), align: "right", wide: true },
  { title: "Completion / 1M", cell: (one) => rate(one, "completion"), align: "right", wide: true },
  {
    title: "In, out / 1M",
    align: "right",
    // Of both on a phone, where there is no room for each.
    narrow: true,
    cell: (one) => (
      <div>
        <p>{rate(one, "prompt")}</p>
        <p>{rate(one, "completion")}</p>
      </div>
    ),
  },
  { title: "A request", cell: (one) => dollars(one.request_fee_usd), align: "right", wide: true },
  { title: "Source", cell: (one) => <span className="break-all text-xs text-muted">{one.source}</span>, wide: true },
];

function NewPrice({ model }: { model: Priced }) {
  const publish = usePublishPrice();
  return (
    <form
      aria-label="A new price"
      className="space-y-3 rounded-xl border border-line p-4"
      onSubmit={(event) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget);
        const text = (name: string) => String(form.get(name) ?? "").trim();
        publish.mutate({
          model_id: model.model_id,
          prompt_usd: text("prompt"),
          completion_usd: text("completion"),
          cached_prompt_usd: text("cached") || null,
          request_fee_usd: text("fee") || "0",
        });
      }}
    >
      <p className="font-medium">A new price, in force from now on</p>
      <ErrorNote error={publish.error} />
      <div className="grid gap-3 sm:grid-cols-2">
        <Field name="prompt" label="Prompt, USD per million" inputMode="decimal" defaultValue={model.prompt_usd_per_1m ?? ""} isRequired />
        <Field name="completion" label="Completion, USD per million" inputMode="decimal" defaultValue={model.completion_usd_per_1m ?? ""} isRequired />
        <Field name="cached" label="Cached prompt, USD per million" inputMode="decimal" hint="Empty: as the prompt." />
        <Field name="fee" label="A request, USD" inputMode="decimal" defaultValue="0" />
      </div>
      <div className="flex flex-wrap items-center gap-3">
        <Button look="primary" type="submit" isDisabled={publish.isPending}>Publish the price</Button>
        {publish.isSuccess && <p role="status" className="text-good">Published. Every gateway has it within a second.</p>}
      </div>
    </form>
  );
}

function PricesOf({ model, onClose }: { model: Priced; onClose: () => void }) {
  const history = useQuery(priceHistoryQuery(model.model_id));
  return (
    <Sheet title={model.model_id} isOpen wide onClose={onClose}>
      <Loaded query={history} rows={2}>
        {(data) =>
          data.prices.length ? (
            <DataTable label="Prices over time" columns={HISTORY} rows={data.prices} keyOf={(one) => one.price_version_id} />
          ) : (
            <p className="text-muted">It has no price, and is not served before it has one.</p>
          )
        }
      </Loaded>
      <NewPrice model={model} />
      <div className="text-right">
        <Button onPress={onClose}>Close</Button>
      </div>
    </Sheet>
  );
}

export function OperatorPricesPage() {
  const models = useQuery(pricedModelsQuery);
  const [typed, setTyped] = useState("");
  const [open, setOpen] = useState<Priced | null>(null);
  const columns: Column<Priced>[] = [
    {
      title: "Model",
      cell: (row) => (
        <button type="button" onClick={() => setOpen(row)} className="break-all text-left font-medium text-accent hover:underline">
          {row.model_id}
        </button>
      ),
    },
    { title: "Provider", cell: (row) => row.provider_id, wide: true },
    { title: "State", cell: (row) => (row.available ? <Badge tone="good">Served</Badge> : <Badge tone="warn">Not served</Badge>), wide: true },
    { title: "Prompt / 1M", cell: (row) => (row.prompt_usd_per_1m === null ? "–" : dollars(row.prompt_usd_per_1m)), align: "right" },
    { title: "Completion / 1M", cell: (row) => (row.completion_usd_per_1m === null ? "–" : dollars(row.completion_usd_per_1m)), align: "right" },
  ];
  return (
    <OperatorPage title="Prices" about="Dated versions of each model's price; a request keeps the one under which it began.">
      <div className="max-w-md">
        <Field label="Search" placeholder="Part of a model's id" value={typed} onChange={setTyped} type="search" />
      </div>
      <Card>
        <Loaded query={models}>
          {(all) => {
            const fitting = all
              .filter((one) => one.model_id.toLowerCase().includes(typed.trim().toLowerCase()))
              .sort((a, b) => Number(b.available) - Number(a.available));
            if (!fitting.length) return <Nothing title="No model fits">Search for less of its id.</Nothing>;
            return (
              <>
                <DataTable label="Models and prices" columns={columns} rows={fitting.slice(0, MODELS_SHOWN_MAX)} keyOf={(row) => row.model_id} />
                {fitting.length > MODELS_SHOWN_MAX && (
                  <p className="border-t border-line p-3 text-center text-muted">
                    {MODELS_SHOWN_MAX} of {count(fitting.length)}; search to see the others.
                  </p>
                )}
              </>
            );
          }}
        </Loaded>
      </Card>
      {open && <PricesOf model={open} onClose={() => setOpen(null)} />}
    </OperatorPage>
  );
}
