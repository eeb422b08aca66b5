/** The addresses of the panel. Everything but the log-in needs a session. */
import type { QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  Outlet,
  redirect,
} from "@tanstack/react-router";

import { ApiError } from "./api/client";
import { sessionQuery } from "./api/queries";
import { ErrorNote } from "./components/feedback";
import { Shell } from "./components/shell";
import { BillingPage } from "./pages/billing";
import { KeysPage } from "./pages/keys";
import { LogInPage } from "./pages/log-in";
import { LogsPage } from "./pages/logs";
import { ModelsPage } from "./pages/models";
import { OverviewPage } from "./pages/overview";
import { RequestPage } from "./pages/request";

const root = createRootRouteWithContext<{ queries: QueryClient }>()({ component: Outlet });

const logIn = createRoute({ getParentRoute: () => root, path: "/log-in", component: LogInPage });

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
export type LogSearch = { model?: string; key_id?: string; status?: number };
const logs = createRoute({
  getParentRoute: () => inside,
  path: "/logs",
  component: LogsPage,
  validateSearch: (search: Record<string, unknown>): LogSearch => ({
    ...(typeof search.model === "string" && search.model ? { model: search.model } : {}),
    ...(typeof search.key_id === "string" && search.key_id ? { key_id: search.key_id } : {}),
    ...(Number(search.status) > 0 ? { status: Number(search.status) } : {}),
  }),
});
const request = createRoute({
  getParentRoute: () => inside,
  path: "/logs/$requestId",
  component: RequestPage,
});
const models = createRoute({ getParentRoute: () => inside, path: "/models", component: ModelsPage });

const tree = root.addChildren([
  logIn,
  inside.addChildren([overview, keys, billing, logs, request, models]),
]);

export function makeRouter(queries: QueryClient) {
  return createRouter({ routeTree: tree, context: { queries }, defaultPreload: "intent" });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof makeRouter>;
  }
}
