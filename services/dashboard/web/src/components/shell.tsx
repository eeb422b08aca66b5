/** The frame around every page: where one is, how much money there is, who is logged in. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useRouterState } from "@tanstack/react-router";
import {
  Bell,
  Boxes,
  CreditCard,
  FileText,
  Gauge,
  KeyRound,
  LogOut,
  MessageSquare,
  Monitor,
  Moon,
  ScrollText,
  Scale,
  Search,
  Settings,
  Sun,
  Wrench,
} from "lucide-react";

import { lazy, Suspense, useEffect, useRef, useState } from "react";

import { api } from "../api/client";
import { useLiveBalance } from "../api/live";
import { balanceQuery, sessionQuery } from "../api/queries";
import { accountsQuery, useSwitchAccount } from "../api/invitations";
import { dollars } from "../format";
import { type Theme, useTheme } from "../theme";

const PLACES = [
  { to: "/", label: "Overview", icon: Gauge },
  { to: "/playground", label: "Playground", icon: MessageSquare },
  { to: "/keys", label: "API Keys", icon: KeyRound },
  { to: "/billing", label: "Billing", icon: CreditCard },
  { to: "/logs", label: "Logs", icon: ScrollText },
  { to: "/models", label: "Models", icon: Boxes },
  { to: "/templates", label: "Templates", icon: FileText },
  { to: "/limits", label: "Limits", icon: Scale },
  { to: "/alerts", label: "Alerts", icon: Bell },
  { to: "/settings", label: "Settings", icon: Settings },
] as const;
// For staff alone.
const OPERATOR = { to: "/operator", label: "Operators", icon: Wrench } as const;

function Places() {
  const session = useQuery(sessionQuery);
  const shown = session.data?.is_operator ? [...PLACES, OPERATOR] : PLACES;
  const places = useRef<HTMLElement>(null);
  const path = useRouterState({ select: (state) => state.location.pathname });
  // On a phone the sections are a line that scrolls: the one we are in is in sight.
  useEffect(() => {
    const show = () => {
      const here = places.current?.querySelector<HTMLElement>("[aria-current=page]");
      if (here && places.current) places.current.scrollLeft = here.offsetLeft - places.current.offsetWidth / 2 + here.offsetWidth / 2;
    };
    show();
    window.addEventListener("resize", show);
    return () => window.removeEventListener("resize", show);
  }, [path]);
  return (
    <nav ref={places} aria-label="Sections" className="relative flex gap-1 overflow-x-auto md:flex-col">
      {shown.map(({ to, label, icon: Icon }) => (
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

// Loaded when it is first opened.
const Palette = lazy(() => import("./palette"));

/** The way to everything for whoever would rather type: by a button, or Ctrl+K (⌘K). */
function GoTo() {
  const session = useQuery(sessionQuery);
  const [isOpen, setOpen] = useState(false);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.defaultPrevented || event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
      event.preventDefault();
      setOpen((open) => !open);
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, []);
  return (
    <>
      <button
        type="button"
        aria-keyshortcuts="Control+K Meta+K"
        onClick={() => setOpen(true)}
        className="flex w-full items-center gap-2.5 rounded-lg p-1.5 text-muted hover:text-ink md:border md:border-line md:px-3"
      >
        <Search aria-hidden className="size-4" />
        <span className="sr-only md:not-sr-only">Go to</span>
        <kbd aria-hidden className="ml-auto hidden font-sans text-xs md:inline">Ctrl K</kbd>
      </button>
      {isOpen && (
        <Suspense>
          <Palette places={session.data?.is_operator ? [...PLACES, OPERATOR] : PLACES} onClose={() => setOpen(false)} />
        </Suspense>
      )}
    </>
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

const THEMES: { name: Theme; label: string; icon: typeof Sun; next: Theme }[] = [
  { name: "system", label: "Colours as the system has them", icon: Monitor, next: "light" },
  { name: "light", label: "Light colours", icon: Sun, next: "dark" },
  { name: "dark", label: "Dark colours", icon: Moon, next: "system" },
];

function ThemeButton() {
  const [theme, setTheme] = useTheme();
  const now = THEMES.find((one) => one.name === theme) ?? THEMES[0];
  if (!now) return null;
  const Icon = now.icon;
  return (
    <button
      type="button"
      aria-label={`${now.label}; change`}
      title={now.label}
      onClick={() => setTheme(now.next)}
      className="rounded p-1.5 text-muted hover:text-ink"
    >
      <Icon aria-hidden className="size-4" />
    </button>
  );
}

function LeaveButton() {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const leave = async () => {
    await api.DELETE("/api/session");
    queries.clear();
    await navigate({ to: "/log-in" });
  };
  return (
    <button
      type="button"
      aria-label="Log out"
      title="Log out"
      onClick={() => void leave()}
      className="rounded p-1.5 text-muted hover:text-ink"
    >
      <LogOut aria-hidden className="size-4" />
    </button>
  );
}

/** The account one is in; a choice for whoever belongs to several. */
function AccountName({ name }: { name: string }) {
  const accounts = useQuery(accountsQuery);
  const change = useSwitchAccount();
  const navigate = useNavigate();
  const here = accounts.data?.find((one) => one.is_this);
  if (!here || (accounts.data?.length ?? 0) < 2) return <p className="hidden truncate font-medium md:block">{name}</p>;
  return (
    <select
      aria-label="Account"
      value={here.account_id}
      disabled={change.isPending}
      onChange={(event) =>
        change.mutate(event.target.value, { onSuccess: () => void navigate({ to: "/" }) })
      }
      className="w-full truncate rounded-lg border border-line bg-surface px-2 py-1 font-medium"
    >
      {accounts.data?.map((one) => (
        <option key={one.account_id} value={one.account_id}>
          {one.name}
        </option>
      ))}
    </select>
  );
}

export function Shell() {
  const session = useQuery(sessionQuery);
  const several = (useQuery(accountsQuery).data?.length ?? 0) > 1;
  useLiveBalance();
  return (
    <div className="min-h-dvh md:grid md:grid-cols-[15rem_minmax(0,1fr)]">
      <a
        href="#content"
        className="sr-only focus:not-sr-only focus:absolute focus:z-20 focus:bg-raised focus:p-2"
      >
        Skip to content
      </a>
      <header className="flex flex-col gap-4 border-b border-line bg-surface p-4 md:sticky md:top-0 md:h-dvh md:border-r md:border-b-0">
        <div className="flex items-center justify-between md:flex-wrap md:gap-4">
          <span className="flex items-center gap-2 text-lg font-semibold tracking-tight">
            <img src="/assets/icon.svg" alt="" className="size-6" />
            Mesh
          </span>
          <span className="ml-auto md:ml-0 md:w-full">
            <GoTo />
          </span>
          <span className="flex md:hidden">
            <ThemeButton />
            <LeaveButton />
          </span>
        </div>
        <Places />
        <div className="hidden flex-1 md:block" />
        <Wallet />
        <div className={`items-center justify-between gap-2 ${several ? "flex" : "hidden md:flex"}`}>
          <div className="min-w-0 flex-1">
            <AccountName name={session.data?.account_name ?? ""} />
            <p className="hidden truncate text-xs text-muted md:block">{session.data?.email}</p>
          </div>
          <span className="hidden md:flex">
            <ThemeButton />
            <LeaveButton />
          </span>
        </div>
      </header>
      <Outlet />
    </div>
  );
}
