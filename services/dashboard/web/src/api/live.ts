/** What pages show of what is pushed: the balance, the last minute, requests as they end. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";

import { api, bodyOf, type Schemas } from "./client";
import { balanceQuery, type LogFilter, transactionsQuery } from "./queries";
import { follow } from "./stream";

/** Keeps the balance current while a page is open, and the entries that explain it. */
export function useLiveBalance(): void {
  const client = useQueryClient();
  useEffect(
    () =>
      follow({
        topic: "balance",
        take: (balance) => {
          const before = client.getQueryData(balanceQuery.queryKey);
          client.setQueryData(balanceQuery.queryKey, balance);
          if (before?.posted_usd === balance.posted_usd) return;
          void client.invalidateQueries({ queryKey: transactionsQuery.queryKey });
        },
      }),
    [client],
  );
}

/** The last minute; null while nothing is pushed. */
export function useLiveFigures(): Schemas["LiveOut"] | null {
  const [figures, setFigures] = useState<Schemas["LiveOut"] | null>(null);
  useEffect(
    () => follow({ topic: "live", take: setFigures, connected: (is) => is || setFigures(null) }),
    [],
  );
  return figures;
}

type Row = Schemas["RequestLineOut"];
const LIVE_ROWS_MAX = 500;
const PAGE_ROWS = 200;
const PAGES_MAX = 3;
/** Requests are logged when they end, and found by when they began. */
const BEGUN_BEFORE_MS = 30_000;

/** The rows in one list, each once, newest first. */
function joined(rows: Row[], others: Row[]): Row[] {
  const known = new Set(rows.map((row) => row.usage_id));
  return [...rows, ...others.filter((row) => !known.has(row.usage_id))]
    .sort((one, other) => other.received_at.localeCompare(one.received_at))
    .slice(0, LIVE_ROWS_MAX);
}

/** What fits and was not pushed since a moment; null where it is more than is fetched at once. */
async function missed(filter: LogFilter, sinceMs: number): Promise<Row[] | null> {
  const rows: Row[] = [];
  let token = "";
  for (let page = 0; page < PAGES_MAX; page += 1) {
    const query = { ...filter, since_ms: Math.max(filter.since_ms ?? 0, sinceMs), page_size: PAGE_ROWS, page_token: token };
    const found = bodyOf(await api.GET("/api/requests", { params: { query } }));
    rows.push(...found.requests);
    token = found.next_page_token;
    if (!token) return rows;
  }
  return null;
}

/** Requests that fit and ended since about when the page was opened, newest first; what was not pushed is fetched. */
export function useLiveRequests(filter: LogFilter, paused: boolean) {
  const client = useQueryClient();
  const [rows, setRows] = useState<Row[]>([]);
  const [connected, setConnected] = useState(false);
  /** Since when nothing was pushed; 0 while it is. */
  const lostMs = useRef(0);
  const query = new URLSearchParams(Object.entries(filter).map(([name, value]) => [name, String(value)])).toString();
  useEffect(() => setRows([]), [query]);
  useEffect(() => {
    if (paused) return;
    let isOver = false;
    lostMs.current ||= Date.now();
    const catchUp = async (sinceMs: number) => {
      const found = await missed(filter, sinceMs - BEGUN_BEFORE_MS).catch(() => []);
      if (isOver) return;
      if (found) setRows((before) => joined(before, found));
      else {
        setRows([]);
        void client.resetQueries({ queryKey: ["log", filter] });
      }
    };
    const leave = follow({
      topic: "requests",
      query,
      take: (row) => setRows((before) => joined([row], before)),
      connected: (is) => {
        setConnected(is);
        if (!is) lostMs.current ||= Date.now();
        else if (lostMs.current) {
          void catchUp(lostMs.current);
          lostMs.current = 0;
        }
      },
    });
    return () => {
      isOver = true;
      lostMs.current ||= Date.now();
      leave();
      setConnected(false);
    };
    // The query says all that the filter does.
  }, [query, paused, client]);
  return { rows, connected };
}
