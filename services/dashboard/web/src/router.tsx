/** The addresses of the panel. Everything but the log-in needs a session. */
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
} from "@tanstack/react-router";

import { ApiError } from "./api/client";
import { type LogSearch, sessionQuery } from "./api/queries";
import { ErrorNote } from "./components/feedback";
import { Shell } from "./components/shell";
import { AlertsPage } from "./pages/alerts";
import { BillingPage } from "./pages/billing";
import { JoinPage } from "./pages/join";
import { KeysPage } from "./pages/keys";
import { LimitsPage } from "./pages/limits";
import { LogInPage } from "./pages/log-in";
import { LogsPage } from "./pages/logs";
import { ModelsPage } from "./pages/models";
import { OverviewPage } from "./pages/overview";
import { PlaygroundPage } from "./pages/playground";
import { RequestPage } from "./pages/request";
import { SettingsPage } from "./pages/settings";
import { TemplatePage } from "./pages/template";
import { TemplatesPage } from "./pages/templates";

const root = createRootRouteWithContext<{ queries: QueryClient }>()({ component: Outlet });

/** What the way through a log-in provider left to say. */
type Said = { problem?: string; request_id?: string };
type LogInSearch = Said & { connect?: boolean };
type SettingsSearch = Said & { set_password?: boolean };

const saidByProvider = (search: Record<string, unknown>): Said => ({
  ...(typeof search.problem === "string" ? { problem: search.problem } : {}),
  ...(typeof search.request_id === "string" ? { request_id: search.request_id } : {}),
});

const logIn = createRoute({
  getParentRoute: () => root,
  path: "/log-in",
  component: LogInPage,
  validateSearch: (search: Record<string, unknown>): LogInSearch => ({
    ...(search.connect ? { connect: true } : {}),
    ...saidByProvider(search),
  }),
});

const join = createRoute({ getParentRoute: () => root, path: "/join", component: JoinPage });

const inside = createRoute({
  getParentRoute: () => root,
  id: "inside",
  component: Shell,
  errorComponent: ({ error }) => <ErrorNote error={error} />,
  beforeLoad: async ({ context }) => {
    try {
      await context.queries.ensureQueryData(sessionQuery);
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) throw redirect({ to: "/log-in" });
      throw error;
    }
  },
});

const overview = createRoute({ getParentRoute: () => inside, path: "/", component: OverviewPage });
const keys = createRoute({ getParentRoute: () => inside, path: "/keys", component: KeysPage });
const billing = createRoute({
  getParentRoute: () => inside,
  path: "/billing",
  component: BillingPage,
});
const LOG_NUMBERS = ["since_ms", "until_ms", "status", "min_latency_ms"] as const;
const LOG_TEXTS = [
  "model",
  "provider",
  "key_id",
  "outcome",
  "error_code",
  "failure_stage",
  "session_id",
  "end_user_id",
  "tag",
  "trace_id",
  "min_cost_usd",
] as const;

/** What of an address is a filter, or words to look for in prompts and answers; the rest of it is left out. */
function logSearch(search: Record<string, unknown>): LogSearch {
  const found: Record<string, string | number> = {};
  for (const name of LOG_NUMBERS) if (Number(search[name]) > 0) found[name] = Number(search[name]);
  for (const name of [...LOG_TEXTS, "words"]) if (search[name]) found[name] = String(search[name]);
  return found as LogSearch;
}

const logs = createRoute({
  getParentRoute: () => inside,
  path: "/logs",
  component: LogsPage,
  validateSearch: logSearch,
});
const request = createRoute({
  getParentRoute: () => inside,
  path: "/logs/$requestId",
  component: RequestPage,
});
const models = createRoute({ getParentRoute: () => inside, path: "/models", component: ModelsPage });

const playground = createRoute({
  getParentRoute: () => inside,
  path: "/playground",
  component: PlaygroundPage,
  validateSearch: (search: Record<string, unknown>): { model?: string } =>
    typeof search.model === "string" && search.model ? { model: search.model } : {},
});
const templates = createRoute({
  getParentRoute: () => inside,
  path: "/templates",
  component: TemplatesPage,
});
const template = createRoute({
  getParentRoute: () => inside,
  path: "/templates/$templateId",
  component: TemplatePage,
});
const settings = createRoute({
  getParentRoute: () => inside,
  path: "/settings",
  component: SettingsPage,
  validateSearch: (search: Record<string, unknown>): SettingsSearch => ({
    ...(search.set_password ? { set_password: true } : {}),
    ...saidByProvider(search),
  }),
});

const limits = createRoute({ getParentRoute: () => inside, path: "/limits", component: LimitsPage });
const alerts = createRoute({ getParentRoute: () => inside, path: "/alerts", component: AlertsPage });

// Loaded when one of them is opened: most people never see them.
const operatorAccounts = createRoute({
  getParentRoute: () => inside,
  path: "/operator",
  component: lazyRouteComponent(() => import("./pages/operator-accounts"), "OperatorAccountsPage"),
});
const operatorAccount = createRoute({
  getParentRoute: () => inside,
  path: "/operator/accounts/$accountId",
  component: lazyRouteComponent(() => import("./pages/operator-accounts"), "OperatorAccountPage"),
});
const operatorProviders = createRoute({
  getParentRoute: () => inside,
  path: "/operator/providers",
  component: lazyRouteComponent(() => import("./pages/operator-providers"), "OperatorProvidersPage"),
});
const operatorPrices = createRoute({
  getParentRoute: () => inside,
  path: "/operator/prices",
  component: lazyRouteComponent(() => import("./pages/operator-catalog"), "OperatorPricesPage"),
});
const operatorGrants = createRoute({
  getParentRoute: () => inside,
  path: "/operator/grants",
  component: lazyRouteComponent(() => import("./pages/operator-money"), "OperatorGrantsPage"),
});
const operatorBooks = createRoute({
  getParentRoute: () => inside,
  path: "/operator/books",
  component: lazyRouteComponent(() => import("./pages/operator-money"), "OperatorBooksPage"),
});
const operatorLog = createRoute({
  getParentRoute: () => inside,
  path: "/operator/log",
  component: lazyRouteComponent(() => import("./pages/operator-log"), "OperatorLogPage"),
});
const operatorPages = [
  operatorAccounts,
  operatorAccount,
  operatorProviders,
  operatorPrices,
  operatorGrants,
  operatorBooks,
  operatorLog,
] as const;

const tree = root.addChildren([
  logIn,
  join,
  inside.addChildren([overview, playground, keys, billing, logs, request, models, templates, template, limits, alerts, settings, ...operatorPages]),
]);

export function makeRouter(queries: QueryClient) {
  return createRouter({ routeTree: tree, context: { queries }, defaultPreload: "intent" });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
