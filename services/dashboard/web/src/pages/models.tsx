/** The catalogue: what can be called, at which price. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { modelsQuery } from "../api/queries";
import { Field } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page } from "../components/layout";
import { count, dollars } from "../format";

type Row = Schemas["ModelOut"];

const price = (amount: string | null) => (amount === null ? "–" : dollars(amount));

const COLUMNS: Column<Row>[] = [
  {
    title: "Model",
    cell: (row) => (
      <div>
        <p className="font-mono text-xs">{row.model_id}</p>
        <p className="text-xs text-muted">{row.name}</p>
      </div>
    ),
  },
  {
    title: "Context",
    cell: (row) => (row.context_length ? count(row.context_length) : "–"),
    align: "right",
    wide: true,
  },
  { title: "Can", cell: (row) => row.capabilities.join(", ").replaceAll("_", " "), wide: true },
  {
    title: "Prompt / 1M",
    cell: (row) => (row.is_free ? "Free" : price(row.prompt_usd_per_1m)),
    align: "right",
  },
  {
    title: "Completion / 1M",
    cell: (row) => (row.is_free ? "Free" : price(row.completion_usd_per_1m)),
    align: "right",
  },
];

export function ModelsPage() {
  const models = useQuery(modelsQuery);
  const [search, setSearch] = useState("");
  const [freeOnly, setFreeOnly] = useState(false);
  const words = search.toLowerCase();
  const rows = (models.data ?? []).filter(
    (m) =>
      (!freeOnly || m.is_free) && `${m.model_id} ${m.name} ${m.brand}`.toLowerCase().includes(words),
  );
  return (
    <Page title="Models" about="Prices are in US dollars per million tokens.">
      <div className="flex flex-wrap items-end gap-4">
        <div className="w-full max-w-sm">
          <Field label="Search" value={search} onChange={setSearch} placeholder="Name or maker" />
        </div>
        <label className="flex items-center gap-2 py-2">
          <input
            type="checkbox"
            checked={freeOnly}
            onChange={(event) => setFreeOnly(event.target.checked)}
            className="size-4 accent-accent"
          />
          Free only
        </label>
      </div>
      <ErrorNote error={models.error} />
      <Card>
        {models.isPending ? (
          <Waiting rows={8} />
        ) : rows.length ? (
          <DataTable label="Models" columns={COLUMNS} rows={rows} keyOf={(row) => row.model_id} />
        ) : (
          <Nothing title="No model fits">
            A provider&apos;s models appear once the operator has stored its credential.
          </Nothing>
        )}
      </Card>
    </Page>
  );
}
