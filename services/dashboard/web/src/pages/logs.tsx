/** Every request, newest first, live, with the filters in the address. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { Pause, Play, X } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";

import type { Schemas } from "../api/client";
import { keysQuery, type LogFilter, logQuery, modelsQuery, summaryQuery, useLiveRequests } from "../api/queries";
import { Button, Choice } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, Page, StatusBadge } from "../components/layout";
import { count, dollars, milliseconds, outcome, percent, time, took } from "../format";

type Row = Schemas["RequestLineOut"];

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
const SPANS: [string, string][] = [
  ["3600000", "Last hour"],
  ["86400000", "Last 24 hours"],
  ["604800000", "Last 7 days"],
  ["2592000000", "Last 30 days"],
];
const ROW_PX = 41;
const COLUMNS =
  "grid grid-cols-[6.5rem_2.5rem_minmax(0,1fr)_5rem] text-xs md:text-sm md:grid-cols-[9rem_3.5rem_minmax(10rem,1.4fr)_minmax(7rem,1fr)_7rem_5.5rem_5.5rem_7rem] items-center gap-2 px-3 md:gap-3 md:px-4";
const WIDE = "hidden md:block";

/** Only rows in view are in the page, so that a million of them scroll like ten. */
function Rows({ rows, onEnd }: { rows: Row[]; onEnd: () => void }) {
  const box = useRef<HTMLDivElement>(null);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => box.current,
    estimateSize: () => ROW_PX,
    overscan: 12,
    getItemKey: (place) => rows[place]?.usage_id ?? place,
  });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (rows.length > 0 && last >= rows.length - 20) onEnd();
  }, [last, rows.length, onEnd]);
  return (
    <div ref={box} className="h-[62dvh] overflow-auto" tabIndex={0} role="region" aria-label="Scrolling list of requests">
      <div role="table" aria-label="Requests" aria-rowcount={rows.length} className="min-w-88">
        <div role="rowgroup" className="sticky top-0 z-1 border-b border-line bg-surface">
          <div role="row" className={`${COLUMNS} py-2 text-xs font-medium text-muted`}>
            <span role="columnheader">Time</span>
            <span role="columnheader">Status</span>
            <span role="columnheader">Model</span>
            <span role="columnheader" className={WIDE}>Outcome</span>
            <span role="columnheader" className={`${WIDE} text-right`}>Tokens</span>
            <span role="columnheader" className={`${WIDE} text-right`}>First token</span>
            <span role="columnheader" className={`${WIDE} text-right`}>Latency</span>
            <span role="columnheader" className="text-right">Cost</span>
          </div>
        </div>
        <div role="rowgroup" className="relative" style={{ height: virtual.getTotalSize() }}>
          {items.map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <div
                key={item.key}
                role="row"
                aria-rowindex={item.index + 1}
                data-usage={row.usage_id}
                className={`${COLUMNS} absolute inset-x-0 border-b border-line hover:bg-canvas`}
                style={{ height: ROW_PX, transform: `translateY(${item.start}px)` }}
              >
                <span role="cell">
                  <Link
                    to="/logs/$requestId"
                    params={{ requestId: row.usage_id }}
                    className="whitespace-nowrap text-accent hover:underline"
                  >
                    {time(row.received_at)}
                  </Link>
                </span>
                <span role="cell"><StatusBadge status={row.http_status} /></span>
                <span role="cell" className="truncate font-mono text-xs">{row.model_id}</span>
                <span role="cell" className={`${WIDE} truncate`}>{row.error_code || outcome(row.outcome)}</span>
                <span role="cell" className={`${WIDE} text-right tabular-nums`}>
                  {count(row.prompt_tokens)} + {count(row.completion_tokens)}
                </span>
                <span role="cell" className={`${WIDE} text-right tabular-nums`}>{milliseconds(row.first_token_ms)}</span>
                <span role="cell" className={`${WIDE} text-right tabular-nums`}>{took(row.latency_ms)}</span>
                <span role="cell" className="text-right tabular-nums">{dollars(row.cost_usd)}</span>
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

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

const same = (names: readonly string[]): [string, string][] => names.map((name) => [name, name]);

function Filters({ filter, change }: { filter: LogFilter; change: (part: LogFilter) => void }) {
  const models = useQuery(modelsQuery);
  const keys = useQuery(keysQuery);
  const [more, setMore] = useState(false);
  const [span, setSpan] = useState("");
  const pick = (ms: string) => {
    setSpan(ms);
    change({ since_ms: ms ? Date.now() - Number(ms) : 0 });
  };
  return (
    <div className="space-y-3" role="search" aria-label="Filters">
      <div className="flex flex-wrap items-end gap-3">
        <Choice label="Time" value={span} options={SPANS} onChange={pick} all={filter.since_ms && !span ? "As linked" : "Ever"} />
        <Choice label="Model" value={filter.model ?? ""} options={(models.data ?? []).map((m) => [m.model_id, m.model_id])} onChange={(model) => change({ model })} />
        <Choice label="Key" value={filter.key_id ?? ""} options={(keys.data ?? []).map((k) => [k.key_id, k.label])} onChange={(key_id) => change({ key_id })} />
        <Choice label="Status" value={filter.status ? String(filter.status) : ""} options={same(STATUSES.map(String))} onChange={(status) => change({ status: Number(status) })} />
        <Choice
          label="Outcome"
          value={filter.outcome ?? ""}
          options={OUTCOMES.map((name) => [name, outcome(name)])}
          onChange={(name) => change({ outcome: name as NonNullable<LogFilter["outcome"]> })}
        />
        <Button onPress={() => setMore(!more)} aria-expanded={more}>
          {more ? "Fewer filters" : "More filters"}
        </Button>
        {Object.keys(filter).length > 0 && (
          <Button onPress={() => { setSpan(""); change(Object.fromEntries(Object.keys(filter).map((name) => [name, ""]))); }}>
            <X aria-hidden className="size-4" /> Clear
          </Button>
        )}
      </div>
      {more && (
        <div className="flex flex-wrap items-end gap-3">
          <Choice label="Failure stage" value={filter.failure_stage ?? ""} options={same(STAGES)} onChange={(failure_stage) => change({ failure_stage })} />
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

function Totals({ filter }: { filter: LogFilter }) {
  const summary = useQuery(summaryQuery(filter, "outcome", false));
  const total = summary.data?.total;
  if (!total) return null;
  return (
    <p className="text-muted" aria-live="polite">
      {count(total.requests)} requests, {percent(total.requests - total.successful_requests, total.requests)} not served,{" "}
      {count(total.prompt_tokens + total.completion_tokens)} tokens, {dollars(total.cost_usd)}
    </p>
  );
}

export function LogsPage() {
  const filter = useSearch({ from: "/inside/logs" });
  const navigate = useNavigate({ from: "/logs" });
  const [paused, setPaused] = useState(false);
  const stored = useInfiniteQuery(logQuery(filter));
  const live = useLiveRequests(filter, paused);
  const change = (part: LogFilter) =>
    void navigate({ search: (old) => ({ ...old, ...part }), replace: true });

  const rows = useMemo(() => {
    const seen = new Set(live.rows.map((row) => row.usage_id));
    const older = stored.data?.pages.flatMap((page) => page.requests) ?? [];
    return [...live.rows, ...older.filter((row) => !seen.has(row.usage_id))];
  }, [live.rows, stored.data]);
  const { hasNextPage, isFetchingNextPage, fetchNextPage } = stored;
  const onEnd = useMemo(
    () => () => {
      if (hasNextPage && !isFetchingNextPage) void fetchNextPage();
    },
    [hasNextPage, isFetchingNextPage, fetchNextPage],
  );
  return (
    <Page
      wide
      title="Logs"
      about="Every request, as it ends."
      actions={
        <Button onPress={() => setPaused(!paused)}>
          <span aria-hidden className={`size-2 rounded-full ${paused ? "bg-muted" : live.connected ? "bg-good" : "bg-warn"}`} />
          {paused ? "Paused" : live.connected ? "Live" : "Connecting…"}
          {paused ? <Play aria-hidden className="size-4" /> : <Pause aria-hidden className="size-4" />}
        </Button>
      }
    >
      <Filters filter={filter} change={change} />
      <Totals filter={filter} />
      <ErrorNote error={stored.error} />
      <Card>
        {stored.isPending ? (
          <Waiting rows={10} />
        ) : rows.length ? (
          <Rows rows={rows} onEnd={onEnd} />
        ) : (
          <Nothing unless={stored.error} title={Object.keys(filter).length ? "No request fits" : "No requests yet"}>
            {Object.keys(filter).length ? "Try fewer filters." : "Send one with any of your keys, or in the playground; it appears here as it ends."}
          </Nothing>
        )}
      </Card>
    </Page>
  );
}
