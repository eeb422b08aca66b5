/** For staff: providers with their credentials, and prices. A credential is written here and never read. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Schemas } from "../api/client";
import {
  priceHistoryQuery,
  pricedModelsQuery,
  providersQuery,
  useCredential,
  usePublishPrice,
  useTestProvider,
} from "../api/operator";
import { Button, Field, Sheet } from "../components/controls";
import { ErrorNote, Nothing } from "../components/feedback";
import { Badge, Card, type Column, DataTable } from "../components/layout";
import { Asking, Id, Loaded, OperatorPage } from "../components/operator-frame";
import { count, dollars, milliseconds, time, words } from "../format";

type Provider = Schemas["ProviderOut"];
type Priced = Schemas["PricedModel"];
const MODELS_SHOWN_MAX = 100;

function ProviderState({ provider }: { provider: Provider }) {
  if (!provider.enabled) return <Badge tone="warn">Switched off</Badge>;
  if (provider.usable) return <Badge tone="good">Usable</Badge>;
  return <Badge tone="warn">No credential</Badge>;
}

function Test({ provider }: { provider: Provider }) {
  const test = useTestProvider();
  const found = test.data;
  return (
    <div className="space-y-1">
      <Button
        aria-label={`Test ${provider.name}`}
        isDisabled={test.isPending}
        onPress={() => test.mutate(provider.provider_id)}
      >
        {test.isPending ? "Testing…" : "Test"}
      </Button>
      <div role="status" className="max-w-72 text-xs">
        {found && (
          <p className={found.ok ? "text-good" : "text-bad"}>
            {found.message} {found.latency_ms > 0 && <span className="text-muted">{milliseconds(found.latency_ms)}</span>}
          </p>
        )}
      </div>
      <ErrorNote error={test.error} />
    </div>
  );
}

function SetCredential({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const { set } = useCredential(provider.provider_id);
  return (
    <Asking
      title={`Credential of ${provider.name}`}
      about="It is stored encrypted and takes the place of the one before. It is not shown again, here or anywhere."
      action="Store"
      error={set.error}
      isPending={set.isPending}
      onClose={onClose}
      onSubmit={(text) => set.mutate(text("credential"), { onSuccess: onClose })}
    >
      <Field name="credential" type="password" label="Credential" autoComplete="off" isRequired autoFocus />
    </Asking>
  );
}

function RemoveCredential({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const { remove } = useCredential(provider.provider_id);
  return (
    <Asking
      title={`Remove the credential of ${provider.name}`}
      about="Its models are no longer served, from the next second on. Requests under way go on."
      action="Remove"
      danger
      error={remove.error}
      isPending={remove.isPending}
      onClose={onClose}
      onSubmit={() => remove.mutate(undefined, { onSuccess: onClose })}
    />
  );
}

export function OperatorProvidersPage() {
  const providers = useQuery(providersQuery);
  const [setting, setSetting] = useState<Provider | null>(null);
  const [removing, setRemoving] = useState<Provider | null>(null);
  const columns: Column<Provider>[] = [
    {
      title: "Provider",
      cell: (row) => (
        <div className="min-w-0">
          <p className="font-medium">{row.name}</p>
          <p className="hidden break-all text-xs text-muted md:block">{row.base_url}</p>
          <p className="mt-1 md:hidden"><ProviderState provider={row} /></p>
        </div>
      ),
    },
    { title: "Speaks", cell: (row) => words(row.kind), wide: true },
    { title: "State", cell: (row) => <ProviderState provider={row} />, wide: true },
    { title: "Credential", cell: (row) => (row.masked_credential ? <Id>{row.masked_credential}</Id> : "–"), wide: true },
    { title: "Test", cell: (row) => <Test provider={row} /> },
    {
      title: "Actions",
      align: "right",
      cell: (row) => (
        <span className="flex flex-wrap justify-end gap-2">
          <Button aria-label={`Set the credential of ${row.name}`} onPress={() => setSetting(row)}>
            Set
          </Button>
          {row.masked_credential && (
            <Button look="danger" aria-label={`Remove the credential of ${row.name}`} onPress={() => setRemoving(row)}>
              Remove
            </Button>
          )}
        </span>
      ),
    },
  ];
  const usableFirst = (rows: Provider[]) => [...rows].sort((a, b) => Number(b.usable) - Number(a.usable));
  return (
    <OperatorPage title="Providers" about="Where models are served, and whether each takes its credential.">
      <Card>
        <Loaded query={providers}>
          {(rows) =>
            rows.length ? (
              <DataTable label="Providers" columns={columns} rows={usableFirst(rows)} keyOf={(row) => row.provider_id} />
            ) : (
              <Nothing title="No providers yet">Register one with mesh admin providers put.</Nothing>
            )
          }
        </Loaded>
      </Card>
      {setting && <SetCredential provider={setting} onClose={() => setSetting(null)} />}
      {removing && <RemoveCredential provider={removing} onClose={() => setRemoving(null)} />}
    </OperatorPage>
  );
}

const HISTORY: Column<Schemas["PriceOut"]>[] = [
  { title: "From", cell: (one) => <span className="whitespace-nowrap">{one.valid_from ? time(one.valid_from) : "the beginning"}</span> },
  { title: "Prompt / 1M", cell: (one) => dollars(one.usd_per_1m.prompt ?? "0"), align: "right" },
  { title: "Cached / 1M", cell: (one) => dollars(one.usd_per_1m.cached_prompt ?? "0"), align: "right", wide: true },
  { title: "Completion / 1M", cell: (one) => dollars(one.usd_per_1m.completion ?? "0"), align: "right" },
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
      <div className="flex items-center gap-3">
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
