/** The last minute in one line, as it is pushed. */
import { useLiveFigures } from "../api/live";
import { count, dollars, milliseconds } from "../format";

export function LiveStrip() {
  const now = useLiveFigures();
  const figures: [string, string][] = [
    ["Requests / s", now ? String(now.requests_per_s) : "…"],
    ["Errors", now ? count(now.errors) : "…"],
    ["Tokens / s", now ? count(now.tokens_per_s) : "…"],
    ["Spend / hour", now ? dollars(now.spend_usd_per_hour) : "…"],
    ["Median", now ? milliseconds(now.latency_p50_ms) : "…"],
    ["95th percentile", now ? milliseconds(now.latency_p95_ms) : "…"],
  ];
  return (
    <section aria-label="The last minute" className="flex flex-col gap-x-6 gap-y-2 rounded-xl border border-line bg-surface px-4 py-3 sm:flex-row sm:flex-wrap sm:items-center">
      <span className="flex items-center gap-2 font-medium">
        <span aria-hidden className={`size-2 rounded-full ${now ? "bg-good" : "bg-line"}`} />
        {now ? "Last minute" : "Connecting"}
      </span>
      <dl className="grid flex-1 grid-cols-2 gap-x-6 gap-y-1 sm:flex sm:flex-wrap sm:justify-between">
        {figures.map(([label, value]) => (
          <div key={label} className="sm:flex sm:items-baseline sm:gap-2">
            <dt className="text-xs text-muted">{label}</dt>
            <dd className="tabular-nums">{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
