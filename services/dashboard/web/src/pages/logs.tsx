/** Every request, newest first, live, with the filters in the address. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { Pause, Play } from "lucide-react";
import { useEffect, useMemo, useRef, useState } from "react";

import type { Schemas } from "../api/client";
import { useLiveRequests } from "../api/live";
import { type LogFilter, logQuery, type LogSearch, summaryQuery } from "../api/queries";
import { ContentHits, useMaySearchContents, WordsField } from "../components/content-search";
import { Button } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, Page, StatusBadge } from "../components/layout";
import { Filters } from "../components/log-filters";
import { count, dollars, milliseconds, outcome, percent, plural, time, took } from "../format";

type Row = Schemas["RequestLineOut"];

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

function Totals({ filter }: { filter: LogFilter }) {
  const summary = useQuery(summaryQuery(filter, "outcome", false));
  const total = summary.data?.total;
  if (!total) return null;
  return (
    <p className="text-muted" aria-live="polite">
      {plural(total.requests, "request")}
      {total.requests > 0 && <>, {percent(total.requests - total.successful_requests, total.requests)} not served,{" "}
      {plural(total.prompt_tokens + total.completion_tokens, "token")}, {dollars(total.cost_usd)}</>}
    </p>
  );
}

/** The log as it is stored, and on top of it what ends meanwhile. */
function Log({ filter, paused, onConnected }: { filter: LogFilter; paused: boolean; onConnected: (is: boolean) => void }) {
  const stored = useInfiniteQuery(logQuery(filter));
  const live = useLiveRequests(filter, paused);
  useEffect(() => onConnected(live.connected), [live.connected, onConnected]);
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
    <>
      <Totals filter={filter} />
      <ErrorNote error={stored.error} />
      {(rows.length > 0 || !stored.error) && <Card>
        {stored.isPending ? (
          <Waiting rows={10} />
        ) : rows.length ? (
          <Rows rows={rows} onEnd={onEnd} />
        ) : (
          <Nothing title={Object.keys(filter).length ? "No request fits" : "No requests yet"}>
            {Object.keys(filter).length ? "Try fewer filters." : "Send one with any of your keys, or in the playground; it appears here as it ends."}
          </Nothing>
        )}
      </Card>}
    </>
  );
}

export function LogsPage() {
  const { words = "", ...filter } = useSearch({ from: "/inside/logs" });
  const navigate = useNavigate({ from: "/logs" });
  const [paused, setPaused] = useState(false);
  const [connected, setConnected] = useState(false);
  const maySearch = useMaySearchContents();
  const searching = maySearch && words !== "";
  // What ends from now on is not in a time that is over.
  const isOver = !!filter.until_ms;
  const change = (part: LogSearch) =>
    void navigate({ search: (old) => ({ ...old, ...part }), replace: true });
  return (
    <Page
      wide
      title="Logs"
      about="Every request, as it ends."
      actions={
        !searching &&
        !isOver && (
          <Button onPress={() => setPaused(!paused)}>
            <span aria-hidden className={`size-2 rounded-full ${paused ? "bg-muted" : connected ? "bg-good" : "bg-warn"}`} />
            {paused ? "Paused" : connected ? "Live" : "Connecting…"}
            {paused ? <Play aria-hidden className="size-4" /> : <Pause aria-hidden className="size-4" />}
          </Button>
        )
      }
    >
      {maySearch && <WordsField words={words} onChange={(next) => change({ words: next })} />}
      <Filters filter={filter} change={change} timeOnly={searching} />
      {searching ? (
        <ContentHits words={words} filter={filter} />
      ) : (
        <Log filter={filter} paused={paused || isOver} onConnected={setConnected} />
      )}
    </Page>
  );
}
