/** What every operators' page has: the way between them, and how it says what it waits for. */
import { type UseQueryResult, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { FormEvent, ReactNode } from "react";

import { sessionQuery } from "../api/queries";
import { Button, Field, Sheet } from "./controls";
import { ErrorNote, Nothing, Waiting } from "./feedback";
import { Card, Page } from "./layout";

const PLACES = [
  { to: "/operator", label: "Accounts" },
  { to: "/operator/providers", label: "Providers" },
  { to: "/operator/prices", label: "Prices" },
  { to: "/operator/grants", label: "Grants" },
  { to: "/operator/books", label: "Books" },
  { to: "/operator/log", label: "Event log" },
] as const;

export function OperatorPage({
  title,
  about,
  actions,
  children,
}: {
  title: string;
  about: string;
  actions?: ReactNode;
  children: ReactNode;
}) {
  const session = useQuery(sessionQuery);
  if (!session.data?.is_operator) {
    return (
      <Page title="Not found">
        <Card>
          <Nothing title="There is no such page">
            <Link to="/" className="text-accent underline">
              To the overview
            </Link>
          </Nothing>
        </Card>
      </Page>
    );
  }
  return (
    <Page title={title} about={about} actions={actions}>
      <nav aria-label="Operators' pages" className="-mx-1 flex flex-wrap gap-1 border-b border-line px-1 pb-2">
        {PLACES.map(({ to, label }) => (
          <Link
            key={to}
            to={to}
            className="shrink-0 rounded-lg px-3 py-1.5 text-muted hover:bg-surface hover:text-ink aria-[current=page]:bg-accent-soft aria-[current=page]:text-accent"
            // The page of one account belongs to Accounts; the others begin with the same address.
            activeOptions={{ exact: to !== "/operator" || !location.pathname.startsWith("/operator/accounts/") }}
          >
            {label}
          </Link>
        ))}
      </nav>
      {children}
    </Page>
  );
}

export function Id({ children }: { children: string }) {
  return <span className="break-all font-mono text-xs text-muted">{children}</span>;
}

/** The error, the wait, or what came. */
export function Loaded<Data>({
  query,
  rows = 4,
  children,
}: {
  query: Pick<UseQueryResult<Data>, "data" | "error" | "isPending">;
  rows?: number;
  children: (data: Data) => ReactNode;
}) {
  return (
    <>
      {query.error && (
        <div className="p-4">
          <ErrorNote error={query.error} />
        </div>
      )}
      {query.data !== undefined ? children(query.data) : query.isPending && <Waiting rows={rows} />}
    </>
  );
}

/** A form in a sheet that asks for a few fields and does one thing. */
export function Asking({
  title,
  about,
  action,
  danger = false,
  error,
  isPending,
  onClose,
  onSubmit,
  children,
}: {
  title: string;
  about: string;
  action: string;
  danger?: boolean;
  error: unknown;
  isPending: boolean;
  onClose: () => void;
  onSubmit: (text: (name: string) => string) => void;
  children?: ReactNode;
}) {
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    onSubmit((name) => String(form.get(name) ?? "").trim());
  };
  return (
    <Sheet title={title} isOpen onClose={onClose}>
      <form className="space-y-4" onSubmit={submit}>
        <p className="text-muted">{about}</p>
        <ErrorNote error={error} />
        {children}
        <div className="flex justify-end gap-2">
          <Button onPress={onClose}>Cancel</Button>
          <Button look={danger ? "danger" : "primary"} type="submit" isDisabled={isPending}>
            {action}
          </Button>
        </div>
      </form>
    </Sheet>
  );
}

export function ReasonField({ hint }: { hint: string }) {
  return <Field name="reason" label="Reason" hint={hint} isRequired maxLength={400} autoFocus />;
}
