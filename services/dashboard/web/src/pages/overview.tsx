/** How much was asked for, how it went and what it cost; and the way in for who has asked nothing. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Check, Circle } from "lucide-react";
import { useMemo, useState } from "react";

import type { Schemas } from "../api/client";
import { useLiveRequests } from "../api/live";
import {
  balanceQuery,
  keysQuery,
  requestsQuery,
  sessionQuery,
  summaryQuery,
  useFirstModel,
} from "../api/queries";
import { filled, type Range, RANGES } from "../buckets";
import { Chart } from "../components/chart";
import { Segments } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Figure, Page } from "../components/layout";
import { LiveStrip } from "../components/live-strip";
import { RequestsTable } from "../components/requests-table";
import { Snippets } from "../components/snippets";
import { count, dollars, milliseconds, nanoOf, percent, plotted, took } from "../format";

type Bucket = Schemas["BucketOut"];

const FIGURES: Column<Bucket>[] = [
  { title: "Requests", sort: (row) => row.requests, cell: (row) => count(row.requests), align: "right" },
  {
    title: "Tokens",
    sort: (row) => row.prompt_tokens + row.completion_tokens,
    cell: (row) => count(row.prompt_tokens + row.completion_tokens),
    align: "right",
    wide: true,
  },
  {
    title: "Median",
    sort: (row) => row.latency_p50_ms,
    cell: (row) => took(row.latency_p50_ms),
    align: "right",
    wide: true,
  },
  { title: "Spend", sort: (row) => nanoOf(row.cost_usd), cell: (row) => dollars(row.cost_usd), align: "right" },
];

function Step({ done, children }: { done: boolean; children: React.ReactNode }) {
  return (
    <li className="flex items-start gap-2">
      {done ? (
        <Check aria-label="Done" className="mt-0.5 size-4 shrink-0 text-good" />
      ) : (
        <Circle aria-label="To do" className="mt-0.5 size-4 shrink-0 text-muted" />
      )}
      <div className="min-w-0 flex-1 space-y-2">{children}</div>
    </li>
  );
}

/** Key, command, first request: shown until there is one, which it waits for. */
function FirstRequest() {
  const session = useQuery(sessionQuery);
  const keys = useQuery(keysQuery);
  const model = useFirstModel();
  const live = useLiveRequests({}, false);
  return (
    <Card title="Make the first request">
      <ol className="space-y-4 p-4">
        <Step done={!!keys.data?.length}>
          <p>
            <Link to="/keys" className="text-accent underline">
              Create an API key
            </Link>{" "}
            and put its secret in <code className="font-mono">MESH_API_KEY</code>.
          </p>
        </Step>
        <Step done={live.rows.length > 0}>
          <p>Send a request:</p>
          <Snippets apiUrl={session.data?.public_api_url ?? ""} model={model} />
        </Step>
        <Step done={live.rows.length > 0}>
          <p role="status">
            {live.rows.length > 0
              ? "It arrived. It is in the log below."
              : "Waiting for it; it appears here as soon as it has ended."}
          </p>
        </Step>
      </ol>
    </Card>
  );
}

function Curves({ range, sinceMs }: { range: Range; sinceMs: number }) {
  const times = useQuery(summaryQuery({ since_ms: sinceMs }, range.by));
  const steps = useMemo(
    () => filled(times.data?.buckets ?? [], { sinceMs, by: range.by }),
    [times.data, sinceMs, range.by],
  );
  if (times.isPending) return <Waiting rows={6} />;
  return (
    <div className="grid grid-cols-1 gap-6 lg:grid-cols-2">
      <Card title="Requests">
        <Chart
          label={`Requests in the last ${range.label}`}
          hours={range.ms === RANGES[0].ms}
          points={steps.map(({ at, bucket }) => ({
            at,
            served: bucket?.successful_requests ?? 0,
            failed: (bucket?.requests ?? 0) - (bucket?.successful_requests ?? 0),
          }))}
          series={[
            { key: "served", name: "Served", color: 1 },
            { key: "failed", name: "Not served", color: 3 },
          ]}
        />
      </Card>
      <Card title="Spend">
        <Chart
          label={`Spend in the last ${range.label}, in US dollars`}
          hours={range.ms === RANGES[0].ms}
          write={(value) => dollars(value.toFixed(9))}
          points={steps.map(({ at, bucket }) => ({ at, spend: plotted(bucket?.cost_usd ?? "0") }))}
          series={[{ key: "spend", name: "Spend", color: 2 }]}
        />
      </Card>
      <Card title="Latency">
        <Chart
          kind="curves"
          label={`Latency in the last ${range.label}`}
          hours={range.ms === RANGES[0].ms}
          write={(value) => (value > 0 ? milliseconds(value) : "0")}
          points={steps.map(({ at, bucket }) => ({
            at,
            p95: bucket?.latency_p95_ms ?? 0,
            p50: bucket?.latency_p50_ms ?? 0,
          }))}
          series={[
            { key: "p95", name: "95th percentile", color: 4 },
            { key: "p50", name: "Median", color: 1 },
          ]}
        />
      </Card>
      <Card title="Tokens">
        <Chart
          label={`Tokens in the last ${range.label}`}
          hours={range.ms === RANGES[0].ms}
          points={steps.map(({ at, bucket }) => ({
            at,
            prompt: bucket?.prompt_tokens ?? 0,
            completion: bucket?.completion_tokens ?? 0,
          }))}
          series={[
            { key: "prompt", name: "Prompt", color: 2 },
            { key: "completion", name: "Completion", color: 1 },
          ]}
        />
      </Card>
    </div>
  );
}

export function OverviewPage() {
  const [range, setRange] = useState<Range>(RANGES[0]);
  const sinceMs = useMemo(() => Date.now() - range.ms, [range]);
  const models = useQuery(summaryQuery({ since_ms: sinceMs }, "model"));
  const byKey = useQuery(summaryQuery({ since_ms: sinceMs }, "key", false));
  const keys = useQuery(keysQuery);
  const balance = useQuery(balanceQuery);
  const recent = useQuery({ ...requestsQuery({}), refetchInterval: 3_000 });
  const labels = new Map((keys.data ?? []).map((key) => [key.key_id, key.label]));
  const total = models.data?.total;
  const failed = total ? total.requests - total.successful_requests : 0;
  const isNew = recent.data?.requests.length === 0;
  return (
    <Page
      title="Overview"
      about={`The last ${range.label}.`}
      actions={
        <Segments
          label="Time"
          value={range.name}
          options={RANGES.map((one) => [one.name, one.label])}
          onChange={(name) => setRange(RANGES.find((one) => one.name === name) ?? RANGES[0])}
        />
      }
    >
      <ErrorNote error={models.error ?? balance.error} />
      <div className="grid grid-cols-2 gap-3 lg:grid-cols-4">
        <Figure label="Requests" value={total ? count(total.requests) : "…"} />
        <Figure label="Spend" value={total ? dollars(total.cost_usd) : "…"} />
        <Figure
          label="Not served"
          value={total ? count(failed) : "…"}
          {...(total?.requests ? { note: `${percent(failed, total.requests)} of requests` } : {})}
        />
        <Figure
          label="Latency, 95th percentile"
          value={total ? (total.requests ? took(total.latency_p95_ms) : "–") : "…"}
          {...(total?.requests ? { note: `median ${took(total.latency_p50_ms)}` } : {})}
        />
      </div>
      <LiveStrip />
      {isNew && <FirstRequest />}
      {!isNew && <Curves range={range} sinceMs={sinceMs} />}
      <div className="grid grid-cols-1 gap-6 lg:grid-cols-2">
        <Card title="By model">
          {models.isPending ? (
            <Waiting />
          ) : models.data?.buckets.length ? (
            <DataTable
              label="Usage by model"
              columns={[
                {
                  title: "Model",
                  cell: (row) => (
                    <Link
                      to="/logs"
                      search={{ model: row.value }}
                      className="font-mono text-xs hover:underline"
                    >
                      {row.value || "(none)"}
                    </Link>
                  ),
                },
                ...FIGURES,
              ]}
              rows={models.data.buckets.slice(0, 8)}
              keyOf={(row) => row.value}
            />
          ) : (
            <Nothing unless={models.error} title="No requests yet" />
          )}
        </Card>
        <Card title="By key">
          {byKey.isPending ? (
            <Waiting />
          ) : byKey.data?.buckets.length ? (
            <DataTable
              label="Usage by key"
              columns={[
                {
                  title: "Key",
                  cell: (row) => (
                    <Link to="/logs" search={{ key_id: row.value }} className="hover:underline">
                      {labels.get(row.value) ?? row.value}
                    </Link>
                  ),
                },
                ...FIGURES,
              ]}
              rows={byKey.data.buckets.slice(0, 8)}
              keyOf={(row) => row.value}
            />
          ) : (
            <Nothing unless={byKey.error} title="No requests yet" />
          )}
        </Card>
      </div>
      {!!recent.data?.requests.length && (
        <Card title="Newest requests">
          <RequestsTable rows={recent.data.requests.slice(0, 8)} />
        </Card>
      )}
    </Page>
  );
}
