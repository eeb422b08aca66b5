/** The catalogue: what can be called, what it can do, at which price, and how it does. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo, useState } from "react";

import type { Schemas } from "../api/client";
import { liveModelsQuery } from "../api/limits";
import { modelsQuery, pricesQuery, sessionQuery, summaryQuery } from "../api/queries";
import { DAY_MS } from "../buckets";
import { Choice, Copyable, Field, Segments, Sheet } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page } from "../components/layout";
import { Snippets } from "../components/snippets";
import { compact, dollars, nanoOf, percent, perThousand, time, took, words } from "../format";

type Row = Schemas["ModelOut"];
type Unit = "1m" | "1k";

const price = (amount: string | null, unit: Unit) =>
  amount === null ? "–" : dollars(unit === "1m" ? amount : perThousand(amount));

/** A price that is not known stands after every other. */
const priceOf = (amount: string | null) => (amount === null ? 1n << 62n : nanoOf(amount));

function distinct(lists: string[][]): [string, string][] {
  return [...new Set(lists.flat())].filter(Boolean).sort().map((name) => [name, words(name)]);
}

function Chips({ names }: { names: string[] }) {
  return (
    <span className="flex flex-wrap gap-1">
      {names.map((name) => (
        <span key={name} className="rounded bg-canvas px-1.5 py-0.5 text-xs text-muted">
          {words(name)}
        </span>
      ))}
    </span>
  );
}

function History({ model }: { model: string }) {
  const prices = useQuery(pricesQuery(model));
  const columns: Column<Schemas["PriceOut"]>[] = [
    { title: "From", cell: (one) => time(one.valid_from) || "the beginning" },
    { title: "Prompt / 1M", cell: (one) => dollars(one.usd_per_1m.prompt ?? "0"), align: "right" },
    { title: "Completion / 1M", cell: (one) => dollars(one.usd_per_1m.completion ?? "0"), align: "right" },
    { title: "Source", cell: (one) => one.source, wide: true },
  ];
  if (prices.isPending) return <Waiting rows={2} />;
  return (
    <>
      <ErrorNote error={prices.error} />
      <DataTable label="Prices over time" columns={columns} rows={prices.data ?? []} keyOf={(one) => one.price_version_id} />
    </>
  );
}

function Details({ row, health }: { row: Row; health: Schemas["BucketOut"] | undefined }) {
  const session = useQuery(sessionQuery);
  return (
    <div className="space-y-4">
      {row.description && <p className="text-muted">{row.description}</p>}
      <Copyable label="the id" text={row.model_id} />
      <Chips names={[...row.capabilities, ...row.input_modalities.map((one) => `${one} in`), ...row.output_modalities.map((one) => `${one} out`)]} />
      <p className="text-muted">Served by {row.providers.join(", ") || "nobody now"}</p>
      {health && health.requests > 0 && (
        <p>
          Your last 24 hours: median {took(health.latency_p50_ms)}, 95th percentile{" "}
          {took(health.latency_p95_ms)}, {percent(health.requests - health.successful_requests, health.requests)} not
          served.
        </p>
      )}
      <h3 className="font-medium">Prices</h3>
      <History model={row.model_id} />
      <h3 className="font-medium">Call it</h3>
      <Snippets apiUrl={session.data?.public_api_url ?? ""} model={row.model_id} />
      <Link to="/playground" search={{ model: row.model_id }} className="inline-block text-accent underline">
        Try it in the playground
      </Link>
    </div>
  );
}

/** How the model answers the account now: latency of its newest minute, failures of half an hour. */
function Live({ figures }: { figures: Schemas["LiveModelOut"] | undefined }) {
  if (!figures?.requests) return <span className="text-muted">–</span>;
  return (
    <span className="whitespace-nowrap">
      {took(figures.latency_p50_ms)}
      <span className={`block text-xs ${figures.errors ? "text-bad" : "text-muted"}`}>
        {percent(figures.errors, figures.requests)} failed
      </span>
    </span>
  );
}

export function ModelsPage() {
  const models = useQuery(modelsQuery);
  const sinceMs = useMemo(() => Date.now() - DAY_MS, []);
  const usage = useQuery(summaryQuery({ since_ms: sinceMs }, "model"));
  const answering = useQuery(liveModelsQuery);
  const [search, setSearch] = useState("");
  const [freeOnly, setFreeOnly] = useState(false);
  const [brand, setBrand] = useState("");
  const [provider, setProvider] = useState("");
  const [capability, setCapability] = useState("");
  const [modality, setModality] = useState("");
  const [context, setContext] = useState("");
  const [dearest, setDearest] = useState("");
  const [unit, setUnit] = useState<Unit>("1m");
  const [open, setOpen] = useState<Row | null>(null);
  const all = models.data ?? [];
  const health = new Map((usage.data?.buckets ?? []).map((bucket) => [bucket.value, bucket]));
  const live = new Map((answering.data ?? []).map((one) => [one.model_id, one]));
  const typed = search.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = all
    .filter(
      (row) =>
        (!freeOnly || row.is_free) &&
        (!brand || row.brand === brand) &&
        (!provider || row.providers.includes(provider)) &&
        (!capability || row.capabilities.includes(capability)) &&
        (!modality || row.input_modalities.includes(modality)) &&
        row.context_length >= Number(context || 0) &&
        (!dearest || priceOf(row.prompt_usd_per_1m) <= nanoOf(dearest)) &&
        typed.every((word) => `${row.model_id} ${row.name} ${row.brand} ${row.providers.join(" ")} ${row.description}`.toLowerCase().includes(word)),
    )
    .sort((a, b) => a.model_id.localeCompare(b.model_id));
  const columns: Column<Row>[] = [
    {
      title: "Model",
      sort: (row) => row.model_id,
      cell: (row) => (
        <button type="button" onClick={() => setOpen(row)} className="text-left hover:underline">
          <span className="block font-mono text-xs">{row.model_id}</span>
          <span className="block text-xs text-muted">{row.name}</span>
        </button>
      ),
    },
    {
      title: "Context",
      sort: (row) => row.context_length,
      cell: (row) => (row.context_length ? compact(row.context_length) : "–"),
      align: "right",
      wide: true,
    },
    { title: "Can", cell: (row) => <Chips names={row.capabilities} />, wide: true },
    {
      title: "Median, 24 h",
      sort: (row) => health.get(row.model_id)?.latency_p50_ms ?? 0,
      cell: (row) => (health.get(row.model_id)?.requests ? took(health.get(row.model_id)?.latency_p50_ms ?? 0) : "–"),
      align: "right",
      wide: true,
    },
    {
      title: "Live",
      cell: (row) => <Live figures={live.get(row.model_id)} />,
      align: "right",
      wide: true,
    },
    {
      id: "prompt",
      title: unit === "1m" ? "Prompt / 1M" : "Prompt / 1K",
      sort: (row) => priceOf(row.prompt_usd_per_1m),
      cell: (row) => (row.is_free ? <span className="text-good">Free</span> : price(row.prompt_usd_per_1m, unit)),
      align: "right",
    },
    {
      id: "completion",
      title: unit === "1m" ? "Completion / 1M" : "Completion / 1K",
      sort: (row) => priceOf(row.completion_usd_per_1m),
      cell: (row) => (row.is_free ? <span className="text-good">Free</span> : price(row.completion_usd_per_1m, unit)),
      align: "right",
    },
  ];
  return (
    <Page title="Models" about="What can be called now, and what it costs in US dollars.">
      <div className="flex flex-wrap items-end gap-3">
        <div className="w-full sm:w-64">
          <Field label="Search" value={search} onChange={setSearch} placeholder="Name, maker or words" type="search" />
        </div>
        <Choice label="Maker" value={brand} options={distinct(all.map((row) => [row.brand]))} onChange={setBrand} />
        <Choice label="Provider" value={provider} options={distinct(all.map((row) => row.providers))} onChange={setProvider} />
        <Choice label="Can" value={capability} options={distinct(all.map((row) => row.capabilities))} onChange={setCapability} />
        <Choice label="Takes" value={modality} options={distinct(all.map((row) => row.input_modalities))} onChange={setModality} />
        <Choice
          label="Context from"
          value={context}
          options={["8000", "32000", "128000", "200000", "1000000"].map((size) => [size, compact(Number(size))])}
          onChange={setContext}
          all="Any"
        />
        <Choice
          label="Prompt at most"
          value={dearest}
          options={["0.1", "0.5", "1", "3", "10"].map((usd) => [usd, `$${usd} per 1M`])}
          onChange={setDearest}
          all="Any"
        />
        <Segments label="Price" value={unit} options={[["1m", "per 1M"], ["1k", "per 1K"]]} onChange={(name) => setUnit(name as Unit)} />
        <label className="flex items-center gap-2 py-2">
          <input type="checkbox" checked={freeOnly} onChange={(event) => setFreeOnly(event.target.checked)} className="size-4 accent-accent" />
          Free only
        </label>
      </div>
      <ErrorNote error={models.error} />
      <Card>
        {models.isPending ? (
          <Waiting rows={8} />
        ) : rows.length ? (
          <DataTable label="Models" chooser="models" columns={columns} rows={rows} keyOf={(row) => row.model_id} />
        ) : (
          <Nothing unless={models.error} title="No model fits">
            A provider&apos;s models appear once the operator has stored its credential.
          </Nothing>
        )}
      </Card>
      <Sheet title={open?.name ?? ""} isOpen={open !== null} onClose={() => setOpen(null)} wide>
        {open && <Details row={open} health={health.get(open.model_id)} />}
      </Sheet>
    </Page>
  );
}
