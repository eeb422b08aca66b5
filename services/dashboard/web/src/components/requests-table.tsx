/** The request log as a table; a row leads to the request's page. */
import { Link } from "@tanstack/react-router";

import type { Schemas } from "../api/client";
import { count, dollars, milliseconds, outcome, time, took } from "../format";
import { type Column, DataTable, StatusBadge } from "./layout";

type Row = Schemas["RequestLineOut"];

const COLUMNS: Column<Row>[] = [
  {
    title: "Time",
    cell: (row) => (
      <Link
        to="/logs/$requestId"
        params={{ requestId: row.usage_id }}
        className="whitespace-nowrap text-accent hover:underline"
      >
        {time(row.received_at)}
      </Link>
    ),
  },
  { title: "Status", cell: (row) => <StatusBadge status={row.http_status} /> },
  { title: "Model", cell: (row) => <span className="font-mono text-xs">{row.model_id}</span> },
  { title: "Outcome", cell: (row) => row.error_code || outcome(row.outcome), wide: true },
  {
    title: "Tokens",
    cell: (row) => `${count(row.prompt_tokens)} + ${count(row.completion_tokens)}`,
    align: "right",
    wide: true,
  },
  {
    title: "First token",
    cell: (row) => milliseconds(row.first_token_ms),
    align: "right",
    wide: true,
  },
  { title: "Latency", cell: (row) => took(row.latency_ms), align: "right", wide: true },
  { title: "Cost", cell: (row) => dollars(row.cost_usd), align: "right" },
];

export function RequestsTable({ rows }: { rows: Row[] }) {
  return (
    <DataTable label="Requests" columns={COLUMNS} rows={rows} keyOf={(row) => row.usage_id} />
  );
}
