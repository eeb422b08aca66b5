/** The last day at a glance, and the first request for someone who has made none. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { balanceQuery, requestsQuery, sessionQuery, summaryQuery } from "../api/queries";
import { Copyable } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Figure, Page } from "../components/layout";
import { RequestsTable } from "../components/requests-table";
import { count, dollars, milliseconds } from "../format";

const DAY_MS = 86_400_000;

const MODEL_COLUMNS: Column<Schemas["BucketOut"]>[] = [
  { title: "Model", cell: (row) => <span className="font-mono text-xs">{row.value}</span> },
  { title: "Requests", cell: (row) => count(row.requests), align: "right" },
  {
    title: "Tokens",
    cell: (row) => count(row.prompt_tokens + row.completion_tokens),
    align: "right",
    wide: true,
  },
  { title: "Median", cell: (row) => milliseconds(row.latency_p50_ms), align: "right", wide: true },
  { title: "Spend", cell: (row) => dollars(row.cost_usd), align: "right" },
];

export function snippet(apiUrl: string): string {
  return `curl -s ${apiUrl}/v1/chat/completions \\
  -H "Authorization: Bearer $MESH_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "local/smollm2-135m", "messages": [{"role": "user", "content": "Say hello."}]}'`;
}

function FirstRequest() {
  const session = useQuery(sessionQuery);
  return (
    <Card title="Make the first request">
      <div className="space-y-3 p-4">
        <p>
          <Link to="/keys" className="text-accent hover:underline">
            Create an API key
          </Link>
          , put it in <code className="font-mono">MESH_API_KEY</code>, and run:
        </p>
        <Copyable label="the command" text={snippet(session.data?.public_api_url ?? "")} />
        <p className="text-muted">It appears here as soon as it has ended.</p>
      </div>
    </Card>
  );
}

export function OverviewPage() {
  const [since] = useState(() => Date.now() - DAY_MS);
  const summary = useQuery(summaryQuery(since, "model"));
  const balance = useQuery(balanceQuery);
  const recent = useQuery({ ...requestsQuery({}), refetchInterval: 3_000 });
  const total = summary.data?.total;
  const failed = total ? total.requests - total.successful_requests : 0;
  return (
    <Page title="Overview" about="The last 24 hours.">
      <ErrorNote error={summary.error ?? balance.error} />
      <div className="grid grid-cols-2 gap-3 lg:grid-cols-4">
        <Figure label="Requests" value={total ? count(total.requests) : "…"} />
        <Figure label="Spend" value={total ? dollars(total.cost_usd) : "…"} />
        <Figure
          label="Not served"
          value={total ? count(failed) : "…"}
          {...(total && total.requests > 0
            ? { note: `${((100 * failed) / total.requests).toFixed(1)} % of requests` }
            : {})}
        />
        <Figure
          label="Latency, 95th percentile"
          value={total ? milliseconds(total.latency_p95_ms) : "…"}
          {...(total ? { note: `median ${milliseconds(total.latency_p50_ms)}` } : {})}
        />
      </div>
      {total?.requests === 0 && <FirstRequest />}
      <Card title="By model">
        {summary.isPending ? (
          <Waiting />
        ) : summary.data?.buckets.length ? (
          <DataTable
            label="Usage by model"
            columns={MODEL_COLUMNS}
            rows={summary.data.buckets}
            keyOf={(row) => row.value}
          />
        ) : (
          <Nothing title="No requests yet" />
        )}
      </Card>
      {!!recent.data?.requests.length && (
        <Card title="Newest requests">
          <RequestsTable rows={recent.data.requests.slice(0, 8)} />
        </Card>
      )}
    </Page>
  );
}
