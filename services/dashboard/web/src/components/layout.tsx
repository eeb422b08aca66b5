/** The pieces that every page is made of: its head, its cards, its tables. */
import type { ReactNode } from "react";

export function Page({
  title,
  about,
  actions,
  wide = false,
  children,
}: {
  title: string;
  /** Takes all the room there is. */
  wide?: boolean;
  about?: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  return (
    <main
      id="content"
      className={`mx-auto w-full min-w-0 space-y-6 p-4 sm:p-8 ${wide ? "max-w-[110rem]" : "max-w-6xl"}`}
    >
      <header className="flex flex-wrap items-end justify-between gap-3">
        <div>
          <h1 className="text-2xl font-semibold tracking-tight">{title}</h1>
          {about && <p className="mt-1 text-muted">{about}</p>}
        </div>
        {actions}
      </header>
      {children}
    </main>
  );
}

export function Card({ title, children }: { title?: string; children: ReactNode }) {
  return (
    <section className="min-w-0 overflow-hidden rounded-xl border border-line bg-surface">
      {title && <h2 className="border-b border-line px-4 py-3 font-medium">{title}</h2>}
      {children}
    </section>
  );
}

export function Figure({ label, value, note }: { label: string; value: string; note?: string }) {
  return (
    <div className="min-w-0 rounded-xl border border-line bg-surface p-4">
      <p className="text-muted">{label}</p>
      <p className="mt-1 text-xl font-semibold tabular-nums tracking-tight sm:text-2xl">{value}</p>
      {note && <p className="mt-1 text-xs text-muted">{note}</p>}
    </div>
  );
}

export { type Column, DataTable } from "./data-table";

const TONES = { good: "bg-good-soft text-good", bad: "bg-bad-soft text-bad", warn: "bg-warn-soft text-warn" };
export type Tone = keyof typeof TONES;

export function Badge({ tone, children }: { tone: Tone; children: string }) {
  return <span className={`whitespace-nowrap rounded px-1.5 py-0.5 text-xs ${TONES[tone]}`}>{children}</span>;
}

export function StatusBadge({ status }: { status: number }) {
  const good = status < 400;
  return (
    <span
      className={`rounded px-1.5 py-0.5 font-mono text-xs ${
        good ? "bg-accent-soft text-accent" : "bg-bad-soft text-bad"
      }`}
    >
      {status}
    </span>
  );
}
