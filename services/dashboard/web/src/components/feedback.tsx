/** What a page says while it waits, when it has nothing, and when something went wrong. */
import { AlertTriangle } from "lucide-react";
import type { ReactNode } from "react";

import { ApiError } from "../api/client";

export function ErrorNote({ error }: { error: unknown }) {
  if (!error) return null;
  const known = error instanceof ApiError ? error : null;
  return (
    <div role="alert" className="flex gap-3 rounded-lg bg-bad-soft p-3 text-bad">
      <AlertTriangle aria-hidden className="size-5 shrink-0" />
      <div>
        <p>{error instanceof Error ? error.message : "Something went wrong."}</p>
        {known?.requestId && <p className="font-mono text-xs">{known.requestId}</p>}
      </div>
    </div>
  );
}

export function Waiting({ rows = 4 }: { rows?: number }) {
  return (
    <div role="status" aria-label="Loading" className="space-y-3 p-4">
      {Array.from({ length: rows }, (_, row) => (
        <div key={row} className="h-5 animate-pulse rounded bg-line" />
      ))}
    </div>
  );
}

/** Says that there is nothing, and what to do about it; `unless` it is only not known, because asking failed. */
export function Nothing({ title, unless, children }: { title: string; unless?: unknown; children?: ReactNode }) {
  if (unless) return null;
  return (
    <div className="px-4 py-12 text-center">
      <p className="font-medium">{title}</p>
      <div className="mt-1 text-muted">{children}</div>
    </div>
  );
}
