/** Every request, newest first, live, with the filters in the address. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useState } from "react";

import type { Schemas } from "../api/client";
import { keysQuery, modelsQuery, requestsQuery } from "../api/queries";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, Page } from "../components/layout";
import { RequestsTable } from "../components/requests-table";
import type { LogSearch } from "../router";

type Row = Schemas["RequestOut"];
const LIVE_ROWS_MAX = 200;

function fits(row: Row, filter: LogSearch): boolean {
  return (
    (!filter.model || row.model_id === filter.model) &&
    (!filter.key_id || row.key_id === filter.key_id) &&
    (!filter.status || row.http_status === filter.status)
  );
}

/** Requests that ended since the page was opened; a filter change starts anew. */
function useLiveRows(filter: LogSearch): { rows: Row[]; connected: boolean } {
  const [rows, setRows] = useState<Row[]>([]);
  const [connected, setConnected] = useState(false);
  const { model, key_id, status } = filter;
  useEffect(() => {
    const wanted: LogSearch = {
      ...(model ? { model } : {}),
      ...(key_id ? { key_id } : {}),
      ...(status ? { status } : {}),
    };
    setRows([]);
    const source = new EventSource("/api/requests/live");
    source.onopen = () => setConnected(true);
    source.onerror = () => setConnected(false);
    source.onmessage = (event: MessageEvent<string>) => {
      const row = JSON.parse(event.data) as Row;
      if (fits(row, wanted)) setRows((before) => [row, ...before].slice(0, LIVE_ROWS_MAX));
    };
    return () => source.close();
  }, [model, key_id, status]);
  return { rows, connected };
}

function Choice({
  label,
  value,
  options,
  onChange,
}: {
  label: string;
  value: string;
  options: [string, string][];
  onChange: (value: string) => void;
}) {
  return (
    <label className="flex flex-col gap-1 text-xs text-muted">
      {label}
      <select
        value={value}
        onChange={(event) => onChange(event.target.value)}
        className="rounded-lg border border-line bg-surface px-2 py-1.5 text-sm text-ink"
      >
        <option value="">All</option>
        {options.map(([id, name]) => (
          <option key={id} value={id}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

const STATUSES = [200, 400, 402, 403, 404, 422, 429, 499, 500, 502, 503, 504];

export function LogsPage() {
  const filter = useSearch({ from: "/inside/logs" });
  const navigate = useNavigate({ from: "/logs" });
  const stored = useQuery(requestsQuery(filter));
  const models = useQuery(modelsQuery);
  const keys = useQuery(keysQuery);
  const live = useLiveRows(filter);
  const change = (part: LogSearch) => void navigate({ search: (old) => ({ ...old, ...part }) });

  const seen = new Set(live.rows.map((row) => row.usage_id));
  const rows = [...live.rows, ...(stored.data?.requests ?? []).filter((r) => !seen.has(r.usage_id))];
  return (
    <Page
      title="Logs"
      about="Every request, as it ends."
      actions={
        <span className="flex items-center gap-2 text-muted">
          <span
            aria-hidden
            className={`size-2 rounded-full ${live.connected ? "bg-good" : "bg-warn"}`}
          />
          {live.connected ? "Live" : "Connecting…"}
        </span>
      }
    >
      <div className="flex flex-wrap gap-3">
        <Choice
          label="Model"
          value={filter.model ?? ""}
          options={(models.data ?? []).map((m) => [m.model_id, m.model_id])}
          onChange={(model) => change({ model })}
        />
        <Choice
          label="Key"
          value={filter.key_id ?? ""}
          options={(keys.data ?? []).map((k) => [k.key_id, k.label])}
          onChange={(key_id) => change({ key_id })}
        />
        <Choice
          label="Status"
          value={filter.status ? String(filter.status) : ""}
          options={STATUSES.map((s) => [String(s), String(s)])}
          onChange={(status) => change({ status: Number(status) })}
        />
      </div>
      <ErrorNote error={stored.error} />
      <Card>
        {stored.isPending ? (
          <Waiting rows={8} />
        ) : rows.length ? (
          <RequestsTable rows={rows} />
        ) : (
          <Nothing title="No requests here">
            Nothing fits these filters yet; new requests appear by themselves.
          </Nothing>
        )}
      </Card>
    </Page>
  );
}
