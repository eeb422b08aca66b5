/** Everything about one request. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";

import { requestQuery } from "../api/queries";
import { ErrorNote, Waiting } from "../components/feedback";
import { Card, Page, StatusBadge } from "../components/layout";
import { count, dollarsExact, milliseconds, outcome, time } from "../format";

function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="grid grid-cols-1 gap-x-6 gap-y-3 p-4 sm:grid-cols-[11rem_1fr]">
      {facts.map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="text-muted">{name}</dt>
          <dd className="min-w-0 break-words">{value || "–"}</dd>
        </div>
      ))}
    </dl>
  );
}

const mono = (text: string) => <span className="font-mono text-xs">{text}</span>;

export function RequestPage() {
  const { requestId } = useParams({ from: "/inside/logs/$requestId" });
  const { data: row, error, isPending } = useQuery(requestQuery(requestId));
  return (
    <Page
      title="Request"
      actions={
        <Link to="/logs" className="text-accent hover:underline">
          All requests
        </Link>
      }
    >
      <ErrorNote error={error} />
      {isPending && <Waiting rows={8} />}
      {row && (
        <>
          <Card title="What happened">
            <Facts
              facts={[
                ["Received", time(row.received_at)],
                ["Status", <StatusBadge key="status" status={row.http_status} />],
                ["Outcome", outcome(row.outcome)],
                ["Error", row.error_code && `${row.error_code} at ${row.failure_stage}`],
                ["Model", mono(row.model_id)],
                ["Provider", row.provider_id],
                ["Streamed", row.stream ? "yes" : "no"],
                ["Finish reason", row.finish_reason],
                ["First token", milliseconds(row.first_token_ms)],
                ["Latency", milliseconds(row.latency_ms)],
              ]}
            />
          </Card>
          <Card title="What it cost">
            <Facts
              facts={[
                ["Prompt tokens", count(row.prompt_tokens)],
                ["Completion tokens", count(row.completion_tokens)],
                ["Cost", dollarsExact(row.cost_usd)],
              ]}
            />
          </Card>
          <Card title="How to find it">
            <Facts
              facts={[
                ["Request id", mono(row.request_id)],
                ["Usage id", mono(row.usage_id)],
                ["Trace id", mono(row.trace_id)],
                ["Key", mono(row.key_id)],
                ["Session", row.session_id],
              ]}
            />
          </Card>
        </>
      )}
    </Page>
  );
}
