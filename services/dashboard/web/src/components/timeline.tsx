/** When what happened to a request, to scale: in the gateway, at each provider, until the first token, until the end. */
import type { Schemas } from "../api/client";
import { milliseconds, time, took } from "../format";

type Row = Schemas["RequestOut"];
type Span = { name: string; colour: string; fromMs: number; untilMs: number };

function within(value: number, least: number, most: number): number {
  return Math.min(Math.max(value, least), most);
}

/** Without gaps, in order; what took no time is left out, but not the last. */
function spansOf(row: Row): Span[] {
  const begun = Date.parse(row.received_at);
  const end = Math.max(row.latency_ms, 1);
  const spans: Span[] = [];
  let at = 0;
  const add = (name: string, colour: string, untilMs: number) => {
    const until = within(untilMs, at, end);
    if (until > at) spans.push({ name, colour, fromMs: at, untilMs: until });
    at = until;
  };
  const attempts = [...row.attempts].sort((one, other) => one.started_at.localeCompare(other.started_at));
  const served = attempts.find((one) => one.served) ?? attempts.at(-1);
  for (const one of attempts) {
    add("In the gateway", "var(--chart-4)", Date.parse(one.started_at) - begun);
    if (one !== served) add(`Failed at ${one.provider_id}`, "var(--chart-3)", Date.parse(one.started_at) - begun + one.latency_ms);
  }
  if (!served) add("In the gateway", "var(--chart-4)", end);
  else if (row.first_token_ms > 0) {
    add(`${served.provider_id}, until the first token`, "var(--chart-2)", row.first_token_ms);
    add("Answer, until its end", "var(--chart-1)", end);
  } else add(`At ${served.provider_id}`, "var(--chart-2)", end);
  return spans;
}

export function Timeline({ row }: { row: Row }) {
  const spans = spansOf(row);
  const end = Math.max(row.latency_ms, 1);
  const scaled = (ms: number) => (1000 * ms) / end;
  return (
    <div className="space-y-2 p-4">
      <svg
        role="img"
        aria-label={`First token after ${milliseconds(row.first_token_ms)}, end after ${took(row.latency_ms)}`}
        viewBox="0 0 1000 16"
        preserveAspectRatio="none"
        className="h-4 w-full overflow-hidden rounded"
      >
        {spans.map((one) => (
          <rect key={one.fromMs} x={scaled(one.fromMs)} width={scaled(one.untilMs - one.fromMs)} height="16" fill={one.colour} />
        ))}
      </svg>
      <p className="flex flex-wrap justify-between gap-2 text-xs text-muted">
        <span>Received {time(row.received_at)}</span>
        {row.first_token_ms > 0 && <span>First token after {milliseconds(row.first_token_ms)}</span>}
        <span>End after {took(row.latency_ms)}</span>
      </p>
      <ol aria-label="Timeline" className="flex flex-wrap gap-x-6 gap-y-1 text-xs">
        {spans.map((one) => (
          <li key={one.fromMs} className="flex items-center gap-1.5">
            <svg aria-hidden viewBox="0 0 8 8" className="size-2 shrink-0">
              <rect width="8" height="8" rx="2" fill={one.colour} />
            </svg>
            {one.name} <span className="text-muted tabular-nums">{took(one.untilMs - one.fromMs)}</span>
          </li>
        ))}
      </ol>
    </div>
  );
}
