/** Buckets of hours and days as points of a chart: gaps are filled with nothing, in order. */
import type { Schemas } from "./api/client";

export const HOUR_MS = 3_600_000;
export const DAY_MS = 86_400_000;

export const RANGES = [
  { name: "24h", label: "24 hours", ms: DAY_MS, by: "hour" },
  { name: "7d", label: "7 days", ms: 7 * DAY_MS, by: "hour" },
  { name: "30d", label: "30 days", ms: 30 * DAY_MS, by: "day" },
] as const;
export type Range = (typeof RANGES)[number];

/** Unix milliseconds of a bucket's name, which is a time in UTC. */
export function startOf(value: string): number {
  const iso = value.replace(" ", "T");
  if (/^\d{4}-\d\d-\d\d$/.test(iso)) return Date.parse(`${iso}T00:00:00Z`);
  if (/^\d{4}-\d\d-\d\dT\d\d$/.test(iso)) return Date.parse(`${iso}:00:00Z`);
  return Date.parse(/Z|[+-]\d\d:?\d\d$/.test(iso) ? iso : `${iso}Z`);
}

/** One entry for each step from `since` to now. */
export function filled(
  buckets: Schemas["BucketOut"][],
  { sinceMs, by }: { sinceMs: number; by: "hour" | "day" },
): { at: number; bucket: Schemas["BucketOut"] | undefined }[] {
  const step = by === "hour" ? HOUR_MS : DAY_MS;
  const known = new Map(buckets.map((bucket) => [startOf(bucket.value), bucket]));
  const first = Math.floor(sinceMs / step) * step;
  const steps = Math.max(1, Math.floor((Date.now() - first) / step) + 1);
  return Array.from({ length: steps }, (_, place) => {
    const at = first + place * step;
    return { at, bucket: known.get(at) };
  });
}
