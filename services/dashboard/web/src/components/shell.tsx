/** The frame around every page: where one is, how much money there is, who is logged in. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate } from "@tanstack/react-router";
import { Boxes, CreditCard, Gauge, KeyRound, LogOut, ScrollText } from "lucide-react";

import { api } from "../api/client";
import { balanceQuery, sessionQuery } from "../api/queries";
import { dollars } from "../format";

const PLACES = [
  { to: "/", label: "Overview", icon: Gauge },
  { to: "/keys", label: "API Keys", icon: KeyRound },
  { to: "/billing", label: "Billing", icon: CreditCard },
  { to: "/logs", label: "Logs", icon: ScrollText },
  { to: "/models", label: "Models", icon: Boxes },
] as const;

function Places() {
  return (
    <nav aria-label="Sections" className="flex gap-1 overflow-x-auto md:flex-col">
      {PLACES.map(({ to, label, icon: Icon }) => (
        <Link
          key={to}
          to={to}
          activeOptions={{ exact: to === "/" }}
          className="flex shrink-0 items-center gap-2.5 rounded-lg px-3 py-2 text-muted hover:bg-canvas hover:text-ink aria-[current=page]:bg-accent-soft aria-[current=page]:text-accent"
        >
          <Icon aria-hidden className="size-4" />
          {label}
        </Link>
      ))}
    </nav>
  );
}

function Wallet() {
  const balance = useQuery(balanceQuery);
  return (
    <Link to="/billing" className="block rounded-lg border border-line p-3 hover:bg-canvas">
      <span className="block text-xs text-muted">Available</span>
      <span data-testid="available" className="block font-semibold tabular-nums">
        {balance.data ? dollars(balance.data.available_usd) : "…"}
      </span>
    </Link>
  );
}

export function Shell() {
  const session = useQuery(sessionQuery);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const leave = async () => {
    await api.DELETE("/api/session");
    queries.clear();
    await navigate({ to: "/log-in" });
  };
  return (
    <div className="min-h-dvh md:grid md:grid-cols-[15rem_1fr]">
      <a href="#content" className="sr-only focus:not-sr-only">
        Skip to content
      </a>
      <aside className="flex flex-col gap-4 border-b border-line bg-surface p-4 md:sticky md:top-0 md:h-dvh md:border-r md:border-b-0">
        <div className="flex items-center justify-between">
          <span className="flex items-center gap-2 text-lg font-semibold tracking-tight">
            <img src="/assets/icon.svg" alt="" className="size-6" />
            Mesh
          </span>
          <button
            type="button"
            aria-label="Log out"
            onClick={() => void leave()}
            className="rounded p-1.5 text-muted hover:text-ink md:hidden"
          >
            <LogOut className="size-4" />
          </button>
        </div>
        <Places />
        <div className="hidden flex-1 md:block" />
        <Wallet />
        <div className="hidden items-center justify-between gap-2 md:flex">
          <div className="min-w-0">
            <p className="truncate font-medium">{session.data?.account_name}</p>
            <p className="truncate text-xs text-muted">{session.data?.email}</p>
          </div>
          <button
            type="button"
            aria-label="Log out"
            onClick={() => void leave()}
            className="rounded p-1.5 text-muted hover:text-ink"
          >
            <LogOut className="size-4" />
          </button>
        </div>
      </aside>
      <Outlet />
    </div>
  );
}
