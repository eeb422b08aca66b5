/** Everything about one request: what happened when, what it cost and why, how to find and repeat it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import type { ReactNode } from "react";

import type { Schemas } from "../api/client";
import { contentQuery, costQuery, keysQuery, requestQuery, sessionQuery } from "../api/queries";
import { Copyable } from "../components/controls";
import { ErrorNote, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page, StatusBadge } from "../components/layout";
import { commandOf } from "../components/snippets";
import { Timeline } from "../components/timeline";
import { count, dollars, dollarsExact, milliseconds, outcome, time, words } from "../format";

type Row = Schemas["RequestOut"];

function Facts({ facts }: { facts: [string, ReactNode][] }) {
  return (
    <dl className="grid grid-cols-1 gap-x-6 gap-y-0.5 p-4 sm:grid-cols-[11rem_1fr] sm:gap-y-3">
      {facts.map(([name, value]) => (
        <div key={name} className="contents">
          <dt className="mt-2 text-muted sm:mt-0">{name}</dt>
          <dd className="min-w-0 break-words">{value || "–"}</dd>
        </div>
      ))}
    </dl>
  );
}

const mono = (text: string) => text && <span className="font-mono text-xs">{text}</span>;

const LINES: Column<Schemas["CostLineOut"]>[] = [
  { title: "Tokens", cell: (one) => words(one.kind) },
  { title: "Quantity", cell: (one) => count(one.tokens), align: "right" },
  { title: "Per 1M", cell: (one) => dollars(one.usd_per_1m), align: "right", wide: true },
  { title: "Cost, not rounded", cell: (one) => dollarsExact(one.cost_usd), align: "right" },
];

function Cost({ row }: { row: Row }) {
  const cost = useQuery({ ...costQuery(row.usage_id), enabled: row.price_version_id !== "" && row.quantities.length > 0 });
  return (
    <Card title="What it cost">
      {cost.data && (
        <DataTable label="Tokens and cost by kind" columns={LINES} rows={cost.data.lines} keyOf={(one) => one.kind} />
      )}
      <Facts
        facts={[
          ["Prompt tokens", count(row.prompt_tokens)],
          ["Completion tokens", count(row.completion_tokens)],
          ...(cost.data && cost.data.request_fee_usd !== "0.00"
            ? ([["Request fee", dollars(cost.data.request_fee_usd)]] as [string, ReactNode][])
            : []),
          ["Cost", <strong key="cost">{dollarsExact(row.cost_usd)}</strong>],
          ["Counted by", words(row.usage_basis)],
          [
            "Price",
            cost.data &&
              [cost.data.price_source, cost.data.price_valid_from && `in force since ${time(cost.data.price_valid_from)}`]
                .filter(Boolean)
                .join(", "),
          ],
        ]}
      />
    </Card>
  );
}

function Text({ title, text, cut }: { title: string; text: string; cut: boolean }) {
  return (
    <section className="p-4">
      <h3 className="text-xs text-muted">{title}</h3>
      <pre className="mt-1 max-h-96 overflow-auto font-mono text-xs break-words whitespace-pre-wrap">{text || "–"}</pre>
      {cut && <p className="mt-1 text-xs text-muted">Only the beginning was stored.</p>}
    </section>
  );
}

function Content({ usageId }: { usageId: string }) {
  const content = useQuery(contentQuery(usageId)).data;
  if (!content) return null;
  return (
    <Card title="What was said">
      <Text title="Prompt" text={content.prompt} cut={content.prompt_truncated} />
      <Text title="Answer" text={content.answer} cut={content.answer_truncated} />
    </Card>
  );
}

const ATTEMPTS: Column<Schemas["AttemptOut"]>[] = [
  { title: "Started", cell: (one) => time(one.started_at), wide: true },
  { title: "Provider", cell: (one) => one.provider_id },
  { title: "Their model", cell: (one) => mono(one.upstream_model), wide: true },
  { title: "Status", cell: (one) => (one.http_status ? <StatusBadge status={one.http_status} /> : "–") },
  { title: "Error", cell: (one) => one.error_code || "–" },
  { title: "Took", cell: (one) => milliseconds(one.latency_ms), align: "right" },
  { title: "Billed", cell: (one) => (one.served ? "yes" : "no") },
];

export function RequestPage() {
  const { requestId } = useParams({ from: "/inside/logs/$requestId" });
  const { data: row, error, isPending } = useQuery(requestQuery(requestId));
  const session = useQuery(sessionQuery);
  const keys = useQuery(keysQuery);
  const label = keys.data?.find((key) => key.key_id === row?.key_id)?.label;
  return (
    <Page
      title="Request"
      actions={
        <Link to="/logs" className="text-accent underline">
          All requests
        </Link>
      }
    >
      <ErrorNote error={error} />
      {isPending && <Waiting rows={8} />}
      {row && (
        <>
          <Card title="What happened">
            <Timeline row={row} />
            <Facts
              facts={[
                ["Status", <StatusBadge key="status" status={row.http_status} />],
                ["Outcome", outcome(row.outcome)],
                ["Error", row.error_code && `${row.error_code}, at the stage ${row.failure_stage}`],
                ["Model", mono(row.model_id)],
                ...(row.requested_model !== row.model_id
                  ? ([["Asked for", mono(row.requested_model)]] as [string, ReactNode][])
                  : []),
                ["Provider", row.provider_id],
                ["Streamed", row.stream ? "yes" : "no"],
                ["Finish reason", row.finish_reason],
              ]}
            />
          </Card>
          {row.attempts.length > 0 && (
            <Card title="Attempts">
              <DataTable
                label="Attempts at providers"
                columns={ATTEMPTS}
                rows={row.attempts}
                keyOf={(one) => `${one.started_at} ${one.provider_id} ${one.upstream_model}`}
              />
            </Card>
          )}
          <Cost row={row} />
          {(session.data?.role === "owner" || session.data?.role === "admin") && <Content usageId={row.usage_id} />}
          <Card title="How to find it">
            <Facts
              facts={[
                ["Request id", mono(row.request_id)],
                ["Usage id", mono(row.usage_id)],
                ["Trace id", mono(row.trace_id)],
                [
                  "Key",
                  <Link key="key" to="/logs" search={{ key_id: row.key_id }} className="text-accent underline">
                    {label ?? row.key_id}
                  </Link>,
                ],
                [
                  "Session",
                  row.session_id && (
                    <Link to="/logs" search={{ session_id: row.session_id }} className="text-accent underline">
                      {row.session_id}
                    </Link>
                  ),
                ],
                ["End user", row.end_user_id],
                [
                  "Tags",
                  Object.entries(row.tags)
                    .map(([name, value]) => `${name}: ${value}`)
                    .join(", "),
                ],
              ]}
            />
          </Card>
          <Card title="Repeat it">
            <div className="space-y-2 p-4">
              <p className="text-muted">Put your messages in again.</p>
              <Copyable
                label="the command"
                text={commandOf(
                  session.data?.public_api_url ?? "",
                  {
                    model: row.requested_model,
                    messages: [{ role: "user", content: "…" }],
                    ...(row.stream ? { stream: true } : {}),
                  },
                  row.route || undefined,
                )}
              />
            </div>
          </Card>
        </>
      )}
    </Page>
  );
}
