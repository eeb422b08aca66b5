/** What was spent: by day as columns, by model, provider or key as bars, and line by line. Each of them leads to its requests. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type KeyboardEvent, useRef, useState } from "react";

import type { Schemas } from "../api/client";
import { keysQuery, type LogFilter, SPEND_DAYS, spendQuery } from "../api/queries";
import { DAY_MS } from "../buckets";
import { count, dollars, dollarsExact, nanoOf, plotted, plural } from "../format";
import { Segments } from "./controls";
import { ErrorNote, Nothing, Waiting } from "./feedback";
import { Card, type Column, DataTable } from "./layout";

type Row = Schemas["SpendRowOut"];
type Dimension = "model_id" | "provider_id" | "key_id";
type Part = Schemas["SpendPartOut"];

const DIMENSIONS: [Dimension, string][] = [
  ["model_id", "Model"],
  ["provider_id", "Provider"],
  ["key_id", "Key"],
];
/** How each dimension is called in the address of the log. */
const FILTERS = { model_id: "model", provider_id: "provider", key_id: "key_id" } as const;
const SUMS = { model_id: "models", provider_id: "providers", key_id: "keys" } as const;
/** As many colours as the charts have; what is beyond is one part of its own. */
const COLOURS_MAX = 3;
const BARS_MAX = 8;
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" });

const startOfDay = (day: string) => Date.parse(`${day}T00:00:00Z`);
const withinDay = (day: string): LogFilter => ({ since_ms: startOfDay(day), until_ms: startOfDay(day) + DAY_MS });

function daysUntilToday(): string[] {
  const today = Math.floor(Date.now() / DAY_MS) * DAY_MS;
  return Array.from({ length: SPEND_DAYS }, (_, place) =>
    new Date(today - (SPEND_DAYS - 1 - place) * DAY_MS).toISOString().slice(0, 10),
  );
}

/** One column a day. Tab goes to the chart, the arrows along it, Enter to the requests of the day. */
function Days({ spend, by, colourOf }: { spend: Schemas["SpendOut"]; by: Dimension; colourOf: (value: string) => number }) {
  const days = daysUntilToday();
  const totals = new Map(spend.days.map((part) => [part.value, part]));
  const dearest = spend.days.reduce<Part | undefined>(
    (most, part) => (plotted(part.spent_usd) > plotted(most?.spent_usd ?? "0") ? part : most),
    undefined,
  );
  const most = plotted(dearest?.spent_usd ?? "0");
  const [here, setHere] = useState(days.length - 1);
  const list = useRef<HTMLUListElement>(null);
  const move = (event: KeyboardEvent) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -days.length, End: days.length }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = Math.min(Math.max(here + step, 0), days.length - 1);
    setHere(next);
    list.current?.querySelectorAll("a")[next]?.focus();
  };
  const said = (day: string) =>
    `${DAY.format(startOfDay(day))}: ${dollars(totals.get(day)?.spent_usd ?? "0")}, ${plural(totals.get(day)?.requests ?? 0, "request")}`;
  return (
    <div className="p-4 pb-2">
      <p aria-hidden className="flex h-4 justify-between gap-3 text-xs text-muted tabular-nums">
        <span className="hidden sm:block">{dollars(dearest?.spent_usd ?? "0")}</span>
        <span>{said(days[here] ?? "")}</span>
      </p>
      <ul ref={list} aria-label="Spend by day" className="mt-1 flex h-40 items-stretch border-b border-line" onKeyDown={move}>
        {days.map((day, place) => (
          <li key={day} className="min-w-0 flex-1">
            <Link
              to="/logs"
              search={withinDay(day)}
              tabIndex={place === here ? 0 : -1}
              aria-label={said(day)}
              onMouseEnter={() => setHere(place)}
              onFocus={() => setHere(place)}
              className={`flex h-full flex-col justify-end px-px sm:px-0.5 ${place === here ? "bg-canvas" : ""}`}
            >
              {spend.rows
                .filter((row) => row.day === day)
                .sort((a, b) => colourOf(b[by]) - colourOf(a[by]))
                .map((row) => (
                  <span
                    key={[row.provider_id, row.model_id, row.key_id].join()}
                    aria-hidden
                    className="block"
                    style={{
                      height: `${Math.max(0, (100 * plotted(row.spent_usd)) / (most || 1))}%`,
                      background: `var(--chart-${colourOf(row[by])})`,
                    }}
                  />
                ))}
            </Link>
          </li>
        ))}
      </ul>
      <p aria-hidden className="mt-1 flex justify-between text-xs text-muted">
        <span>{DAY.format(startOfDay(days[0] ?? ""))}</span>
        <span>{DAY.format(startOfDay(days.at(-1) ?? ""))}</span>
      </p>
    </div>
  );
}

/** What each value of the dimension cost, as a bar that leads to its requests. */
function Bars({
  parts,
  by,
  labelOf,
  colourOf,
}: {
  parts: Part[];
  by: Dimension;
  labelOf: (value: string) => string;
  colourOf: (value: string) => number;
}) {
  const since = startOfDay(daysUntilToday()[0] ?? "");
  const most = plotted(parts[0]?.spent_usd ?? "0");
  return (
    <ul className="grid gap-1 px-2 pb-3" aria-label="Spend by value">
      {parts.slice(0, BARS_MAX).map((part) => (
        <li key={part.value}>
          <Link
            to="/logs"
            search={{ [FILTERS[by]]: part.value, since_ms: since }}
            className="grid grid-cols-[minmax(0,1fr)_auto] gap-x-3 gap-y-1 rounded-lg px-2 py-1 hover:bg-canvas"
          >
            <span className="truncate">{labelOf(part.value) || "(none)"}</span>
            <span className="tabular-nums">
              {dollars(part.spent_usd)} <span className="text-xs text-muted">{plural(part.requests, "request")}</span>
            </span>
            <span aria-hidden className="col-span-2 h-1.5 overflow-hidden rounded bg-line/50">
              <span
                className="block h-full rounded"
                style={{
                  width: `${Math.max(0, (100 * plotted(part.spent_usd)) / (most || 1))}%`,
                  background: `var(--chart-${colourOf(part.value)})`,
                }}
              />
            </span>
          </Link>
        </li>
      ))}
      {parts.length > BARS_MAX && <li className="px-2 text-xs text-muted">and {parts.length - BARS_MAX} more in the table</li>}
    </ul>
  );
}

function columnsOf(labelOf: (name: string) => string): Column<Row>[] {
  return [
    {
      title: "Day (UTC)",
      sort: (row) => row.day,
      cell: (row) => (
        <Link to="/logs" search={withinDay(row.day)} className="whitespace-nowrap hover:underline">
          {row.day}
        </Link>
      ),
    },
    { title: "Provider", sort: (row) => row.provider_id, cell: (row) => row.provider_id, wide: true },
    {
      title: "Model",
      sort: (row) => row.model_id,
      cell: (row) => (
        <Link
          to="/logs"
          search={{ ...withinDay(row.day), model: row.model_id, provider: row.provider_id, key_id: row.key_id }}
          title={row.model_id}
          className="block max-w-24 truncate text-accent underline sm:max-w-none"
        >
          {row.model_id || "(none)"}
        </Link>
      ),
    },
    { title: "Key", sort: (row) => labelOf(row.key_id), cell: (row) => labelOf(row.key_id), wide: true },
    { title: "Requests", sort: (row) => row.requests, align: "right", wide: true, cell: (row) => count(row.requests) },
    { title: "Spent", sort: (row) => nanoOf(row.spent_usd), align: "right", cell: (row) => dollarsExact(row.spent_usd) },
  ];
}

export function SpendCard() {
  const spend = useQuery(spendQuery);
  const keys = useQuery(keysQuery);
  const [by, setBy] = useState<Dimension>("model_id");
  const labels = new Map(keys.data?.map((key) => [key.key_id, key.label]));
  const nameOf = (id: string) => labels.get(id) ?? id;
  if (spend.isPending) return <Card title="Spent in 30 days"><Waiting rows={5} /></Card>;
  if (!spend.data) return <ErrorNote error={spend.error} />;
  const parts = spend.data[SUMS[by]];
  const places = new Map(parts.map((part, at) => [part.value, Math.min(at, COLOURS_MAX) + 1]));
  const colourOf = (value: string) => places.get(value) ?? COLOURS_MAX + 1;
  return (
    <Card title={`Spent in ${SPEND_DAYS} days: ${dollars(spend.data.spent_usd)}`}>
      {parts.length ? (
        <>
          <div className="px-4 pt-3">
            <Segments label="Spend by" value={by} options={DIMENSIONS} onChange={(name) => setBy(name as Dimension)} />
          </div>
          <Days spend={spend.data} by={by} colourOf={colourOf} />
          <Bars parts={parts} by={by} labelOf={by === "key_id" ? nameOf : (value) => value} colourOf={colourOf} />
          <div className="border-t border-line">
            <DataTable
              label="Spending by day"
              columns={columnsOf(nameOf)}
              // Newest day first.
              rows={[...spend.data.rows].reverse()}
              keyOf={(row) => [row.day, row.provider_id, row.model_id, row.key_id].join()}
            />
          </div>
        </>
      ) : (
        <Nothing title="Nothing was spent">What requests cost appears here, to the last digit.</Nothing>
      )}
    </Card>
  );
}
