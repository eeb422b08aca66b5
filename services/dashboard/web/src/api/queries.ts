/** What the pages read and change, as TanStack Query hooks. One place for keys and refresh times. */
import {
  infiniteQueryOptions,
  queryOptions,
  useMutation,
  useQuery,
  useQueryClient,
} from "@tanstack/react-query";

import { api, bodyOf, rememberSession, type Schemas } from "./client";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async () => rememberSession(bodyOf(await api.GET("/api/session"))),
  staleTime: 60_000,
  retry: false,
});

/** Asked once; from then on the server pushes it (`useLiveBalance`). */
export const balanceQuery = queryOptions({
  queryKey: ["balance"],
  queryFn: async () => bodyOf(await api.GET("/api/balance")),
  staleTime: 30_000,
});

/** Asked often: a payment is credited a moment after the person comes back. */
export const paymentsQuery = queryOptions({
  queryKey: ["payments"],
  queryFn: async () => bodyOf(await api.GET("/api/payments")),
  refetchInterval: 1_500,
});

export const refillQuery = queryOptions({
  queryKey: ["refill"],
  queryFn: async () => bodyOf(await api.GET("/api/refill")),
  refetchInterval: 3_000,
});

export const SPEND_DAYS = 30;

/** From the start of a UTC day, so that no day is shown in part. */
export const spendQuery = queryOptions({
  queryKey: ["spend"],
  queryFn: async () => {
    const day = 86_400_000;
    const from = (Math.floor(Date.now() / day) - SPEND_DAYS + 1) * day;
    return bodyOf(await api.GET("/api/spend", { params: { query: { from_ms: from } } }));
  },
  staleTime: 60_000,
});

export const paymentHistoryQuery = infiniteQueryOptions({
  queryKey: ["payment-history"],
  queryFn: async ({ pageParam }) =>
    bodyOf(
      await api.GET("/api/payment-history", {
        params: { query: { page_size: 20, page_token: pageParam } },
      }),
    ),
  initialPageParam: "",
  getNextPageParam: (page) => page.next_page_token || undefined,
  refetchInterval: 5_000,
});

export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: async () => bodyOf(await api.GET("/api/keys")),
  refetchInterval: 5_000,
});

export const keyUsageQuery = (keyId: string, sinceMs: number, by: "hour" | "day") =>
  queryOptions({
    queryKey: ["key-usage", keyId, sinceMs, by],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/keys/{key_id}/usage", {
          params: { path: { key_id: keyId }, query: { since_ms: sinceMs, by } },
        }),
      ),
    refetchInterval: 15_000,
  });

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async () => bodyOf(await api.GET("/api/models")),
  staleTime: 60_000,
});

/** A model that can be called here, for snippets: one of this machine where there is one. */
export function useFirstModel(): string {
  const models = useQuery(modelsQuery).data ?? [];
  return (models.find((one) => one.model_id.startsWith("local/")) ?? models[0])?.model_id ?? "";
}

export const pricesQuery = (model: string) =>
  queryOptions({
    queryKey: ["prices", model],
    queryFn: async () => bodyOf(await api.GET("/api/prices", { params: { query: { model } } })),
    staleTime: 60_000,
    enabled: model !== "",
  });

export const transactionsQuery = infiniteQueryOptions({
  queryKey: ["transactions"],
  queryFn: async ({ pageParam }) =>
    bodyOf(
      await api.GET("/api/transactions", {
        params: { query: { page_size: 50, page_token: pageParam } },
      }),
    ),
  initialPageParam: "",
  getNextPageParam: (page) => page.next_page_token || undefined,
});

export type LogFilter = {
  since_ms?: number;
  until_ms?: number;
  model?: string;
  provider?: string;
  key_id?: string;
  status?: number;
  outcome?: "success" | "refused" | "upstream_error" | "client_gone" | "limit_reached" | "crashed";
  error_code?: string;
  failure_stage?: string;
  session_id?: string;
  end_user_id?: string;
  tag?: string;
  trace_id?: string;
  min_latency_ms?: number;
  min_cost_usd?: string;
};

/** The address of the log: its filters, and words to look for in prompts and answers. */
export type LogSearch = LogFilter & { words?: string };

const LOG_PAGE = 100;

export const requestsQuery = (filter: LogFilter) =>
  queryOptions({
    queryKey: ["requests", filter],
    queryFn: async () =>
      bodyOf(await api.GET("/api/requests", { params: { query: { ...filter, page_size: 20 } } })),
  });

/** The log page after page, as far as somebody scrolls. */
export const logQuery = (filter: LogFilter) =>
  infiniteQueryOptions({
    queryKey: ["log", filter],
    queryFn: async ({ pageParam }) =>
      bodyOf(
        await api.GET("/api/requests", {
          params: { query: { ...filter, page_size: LOG_PAGE, page_token: pageParam } },
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_page_token || undefined,
  });

export const requestQuery = (requestId: string) =>
  queryOptions({
    queryKey: ["request", requestId],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/requests/{request_id}", { params: { path: { request_id: requestId } } }),
      ),
  });

/** Not found where nothing is stored, which is nearly always. */
export const contentQuery = (usageId: string) =>
  queryOptions({
    queryKey: ["content", usageId],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/requests/{request_id}/content", { params: { path: { request_id: usageId } } }),
      ),
    retry: false,
  });

export const contentHitsQuery = (words: string, { since_ms = 0, until_ms = 0 }: LogFilter) =>
  infiniteQueryOptions({
    queryKey: ["content", "search", words, since_ms, until_ms],
    queryFn: async ({ pageParam }) =>
      bodyOf(
        await api.GET("/api/contents", {
          params: { query: { words, since_ms, until_ms, page_token: pageParam } },
        }),
      ),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_page_token || undefined,
  });

export const costQuery = (requestId: string) =>
  queryOptions({
    queryKey: ["cost", requestId],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/requests/{request_id}/cost", {
          params: { path: { request_id: requestId } },
        }),
      ),
    staleTime: Number.POSITIVE_INFINITY,
  });

type GroupBy = "model" | "key" | "provider" | "day" | "hour" | "outcome";

/** Figures by one dimension; percentiles only where they are shown, because they cost the most. */
export const summaryQuery = (filter: LogFilter, groupBy: GroupBy, times = true) =>
  queryOptions({
    queryKey: ["summary", filter, groupBy, times],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/summary", { params: { query: { ...filter, group_by: groupBy, times } } }),
      ),
    refetchInterval: 5_000,
  });

export const sessionsQuery = queryOptions({
  queryKey: ["sessions"],
  queryFn: async () => bodyOf(await api.GET("/api/sessions")),
});

export const membersQuery = queryOptions({
  queryKey: ["members"],
  queryFn: async () => bodyOf(await api.GET("/api/members")),
});

export const auditQuery = infiniteQueryOptions({
  queryKey: ["audit"],
  queryFn: async ({ pageParam }) =>
    bodyOf(
      await api.GET("/api/audit", { params: { query: { page_size: 50, page_token: pageParam } } }),
    ),
  initialPageParam: "",
  getNextPageParam: (page) => page.next_page_token || undefined,
});

function useChange<Input, Output>(change: (input: Input) => Promise<Output>, queryKey: string[]) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSuccess: () => client.invalidateQueries({ queryKey }),
  });
}

export const useCreateKey = () =>
  useChange(
    async (body: Schemas["KeySettingsIn"]) => bodyOf(await api.POST("/api/keys", { body })),
    ["keys"],
  );

export const useChangeKey = () =>
  useChange(
    async ({ keyId, body }: { keyId: string; body: Schemas["KeyChange"] }) =>
      bodyOf(
        await api.PATCH("/api/keys/{key_id}", { params: { path: { key_id: keyId } }, body }),
      ),
    ["keys"],
  );

export const useRotateKey = () =>
  useChange(
    async (keyId: string) =>
      bodyOf(
        await api.POST("/api/keys/{key_id}/rotate", { params: { path: { key_id: keyId } } }),
      ),
    ["keys"],
  );

export type KeyAction = "suspend" | "resume";

export const useKeyAction = () =>
  useChange(
    async ({ keyId, action }: { keyId: string; action: KeyAction }) => {
      const params = { path: { key_id: keyId } };
      return bodyOf(
        action === "suspend"
          ? await api.POST("/api/keys/{key_id}/suspend", { params })
          : await api.POST("/api/keys/{key_id}/resume", { params }),
      );
    },
    ["keys"],
  );

export const useRevokeSession = () =>
  useChange(
    async (sessionId: string) => {
      await api.DELETE("/api/sessions/{session_id}", {
        params: { path: { session_id: sessionId } },
      });
    },
    ["sessions"],
  );

export const useEraseContents = () =>
  useChange(async (_: void) => bodyOf(await api.DELETE("/api/contents")), ["content"]);

export const useChangePassword = () =>
  useChange(
    async (body: Schemas["PasswordChange"]) => {
      await api.POST("/api/password", { body });
    },
    ["sessions"],
  );

export const useChangeMember = () =>
  useChange(
    async ({ userId, role }: { userId: string; role: Schemas["MemberChange"]["role"] }) =>
      bodyOf(
        await api.PATCH("/api/members/{user_id}", {
          params: { path: { user_id: userId } },
          body: { role },
        }),
      ),
    ["members"],
  );

export const useRemoveMember = () =>
  useChange(
    async (userId: string) => {
      await api.DELETE("/api/members/{user_id}", { params: { path: { user_id: userId } } });
    },
    ["members"],
  );
