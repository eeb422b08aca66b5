/** The filters of the log, which stand in the address, and what fits them as a file. */
import { useQuery } from "@tanstack/react-query";
import { X } from "lucide-react";
import { useEffect, useState } from "react";

import { keysQuery, type LogFilter, modelsQuery } from "../api/queries";
import { localTime, outcome } from "../format";
import { Button, Choice } from "./controls";

const STATUSES = [200, 400, 401, 402, 403, 404, 422, 429, 499, 500, 502, 503, 504];
const OUTCOMES = ["success", "refused", "upstream_error", "client_gone", "limit_reached", "crashed"];
const STAGES = [
  "auth",
  "guard_rate_limit",
  "guard_spend_cap",
  "guard_model_access",
  "template",
  "balance",
  "credentials",
  "upstream_submit",
  "upstream_stream",
  "settlement",
];
/** The choice of two moments of one's own. */
const BETWEEN = "between";
const SPANS: [string, string][] = [
  ["3600000", "Last hour"],
  ["86400000", "Last 24 hours"],
  ["604800000", "Last 7 days"],
  ["2592000000", "Last 30 days"],
  [BETWEEN, "Between …"],
];
/** The filters that are folded away until they are wanted. */
const MORE = [
  "failure_stage",
  "error_code",
  "provider",
  "session_id",
  "tag",
  "end_user_id",
  "trace_id",
  "min_latency_ms",
  "min_cost_usd",
] as const satisfies (keyof LogFilter)[];

/** A text filter that takes effect with Enter or on leaving it. */
function Typed({ label, value, onChange, hint }: { label: string; value: string; onChange: (value: string) => void; hint?: string }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return (
    <label className="flex flex-col gap-1 text-xs text-muted">
      {label}
      <input
        value={text}
        placeholder={hint ?? ""}
        onChange={(event) => setText(event.target.value)}
        onBlur={() => text !== value && onChange(text.trim())}
        onKeyDown={(event) => event.key === "Enter" && onChange(text.trim())}
        className="w-36 rounded-lg border border-line bg-surface px-2 py-1.5 text-sm text-ink placeholder:text-muted"
      />
    </label>
  );
}

/** The options with the one that is chosen, which a link may have from elsewhere. */
function withChosen(options: [string, string][], chosen: string | undefined): [string, string][] {
  return !chosen || options.some(([id]) => id === chosen) ? options : [[chosen, chosen], ...options];
}

const same = (names: readonly string[]): [string, string][] => names.map((name) => [name, name]);

/** The moment of a filter in the browser's own field for date and time, in the reader's zone. */
function Moment({ label, ms, onChange }: { label: string; ms: number | undefined; onChange: (ms: number) => void }) {
  const stands = ms ? localTime(ms) : "";
  const [text, setText] = useState(stands);
  useEffect(() => setText(stands), [stands]);
  const apply = () => text !== stands && onChange(text ? new Date(text).getTime() : 0);
  return (
    <label className="flex flex-col gap-1 text-xs text-muted">
      {label}
      <input
        type="datetime-local"
        value={text}
        onChange={(event) => setText(event.target.value)}
        onBlur={apply}
        onKeyDown={(event) => event.key === "Enter" && apply()}
        className="rounded-lg border border-line bg-surface px-2 py-1.5 text-sm text-ink"
      />
    </label>
  );
}

/** Everything that fits, as a file; the browser sends the session along. */
function Exports({ filter }: { filter: LogFilter }) {
  const query = new URLSearchParams(Object.entries(filter).map(([name, value]) => [name, String(value)]));
  return (
    <p className="flex gap-3 py-2 text-sm">
      <span className="text-muted">Export</span>
      {(["csv", "parquet"] as const).map((form) => (
        <a key={form} href={`/api/requests/export/${form}?${query}`} download className="text-accent underline">
          {form === "csv" ? "CSV" : "Parquet"}
        </a>
      ))}
    </p>
  );
}

/** `timeOnly`: what is looked for in prompts and answers is narrowed by time alone. */
export function Filters({
  filter,
  change,
  timeOnly = false,
}: {
  filter: LogFilter;
  change: (part: LogFilter) => void;
  timeOnly?: boolean;
}) {
  const models = useQuery(modelsQuery);
  const keys = useQuery(keysQuery);
  // What an address filters by is seen, wherever it came from.
  const [more, setMore] = useState(MORE.some((name) => filter[name]));
  const [span, setSpan] = useState(filter.since_ms || filter.until_ms ? BETWEEN : "");
  const pick = (name: string) => {
    setSpan(name);
    if (name !== BETWEEN) change({ since_ms: name ? Date.now() - Number(name) : 0, until_ms: 0 });
  };
  return (
    <div className="space-y-3" role="search" aria-label="Filters">
      <div className="flex flex-wrap items-end gap-3">
        <Choice label="Time" value={span} options={SPANS} onChange={pick} all="Ever" />
        {span === BETWEEN && (
          <>
            <Moment label="From" ms={filter.since_ms} onChange={(since_ms) => change({ since_ms })} />
            <Moment label="Until" ms={filter.until_ms} onChange={(until_ms) => change({ until_ms })} />
          </>
        )}
        {!timeOnly && (
          <>
            <Choice label="Model" value={filter.model ?? ""} options={withChosen((models.data ?? []).map((m) => [m.model_id, m.model_id]), filter.model)} onChange={(model) => change({ model })} />
            <Choice label="Key" value={filter.key_id ?? ""} options={withChosen((keys.data ?? []).map((k) => [k.key_id, k.label]), filter.key_id)} onChange={(key_id) => change({ key_id })} />
            <Choice label="Status" value={filter.status ? String(filter.status) : ""} options={withChosen(same(STATUSES.map(String)), filter.status ? String(filter.status) : "")} onChange={(status) => change({ status: Number(status) })} />
            <Choice
              label="Outcome"
              value={filter.outcome ?? ""}
              options={OUTCOMES.map((name) => [name, outcome(name)])}
              onChange={(name) => change({ outcome: name as NonNullable<LogFilter["outcome"]> })}
            />
            <Button onPress={() => setMore(!more)} aria-expanded={more}>
              {more ? "Fewer filters" : "More filters"}
            </Button>
            <Exports filter={filter} />
          </>
        )}
        {Object.keys(filter).length > 0 && (
          <Button onPress={() => { setSpan(""); change(Object.fromEntries(Object.keys(filter).map((name) => [name, ""]))); }}>
            <X aria-hidden className="size-4" /> Clear
          </Button>
        )}
      </div>
      {more && !timeOnly && (
        <div className="flex flex-wrap items-end gap-3">
          <Choice label="Failure stage" value={filter.failure_stage ?? ""} options={withChosen(same(STAGES), filter.failure_stage)} onChange={(failure_stage) => change({ failure_stage })} />
          <Typed label="Error code" value={filter.error_code ?? ""} onChange={(error_code) => change({ error_code })} />
          <Typed label="Provider" value={filter.provider ?? ""} onChange={(provider) => change({ provider })} />
          <Typed label="Session" value={filter.session_id ?? ""} onChange={(session_id) => change({ session_id })} />
          <Typed label="Tag" hint="name:value" value={filter.tag ?? ""} onChange={(tag) => change({ tag })} />
          <Typed label="End user" value={filter.end_user_id ?? ""} onChange={(end_user_id) => change({ end_user_id })} />
          <Typed label="Trace id" value={filter.trace_id ?? ""} onChange={(trace_id) => change({ trace_id })} />
          <Typed label="Latency from, ms" value={String(filter.min_latency_ms ?? "")} onChange={(ms) => change({ min_latency_ms: Number(ms) || 0 })} />
          <Typed label="Cost from, USD" value={filter.min_cost_usd ?? ""} onChange={(min_cost_usd) => change({ min_cost_usd })} />
        </div>
      )}
    </div>
  );
}
