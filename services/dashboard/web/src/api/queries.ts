/** What the pages read and change, as TanStack Query hooks. One place for keys and refresh times. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";

import { api, bodyOf, rememberSession, type Schemas } from "./client";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async () => rememberSession(bodyOf(await api.GET("/api/session"))),
  staleTime: 60_000,
  retry: false,
});

export const balanceQuery = queryOptions({
  queryKey: ["balance"],
  queryFn: async () => bodyOf(await api.GET("/api/balance")),
  refetchInterval: 2_000,
});

export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: async () => bodyOf(await api.GET("/api/keys")),
  refetchInterval: 5_000,
});

export const modelsQuery = queryOptions({
  queryKey: ["models"],
  queryFn: async () => bodyOf(await api.GET("/api/models")),
  staleTime: 60_000,
});

export const transactionsQuery = queryOptions({
  queryKey: ["transactions"],
  queryFn: async () =>
    bodyOf(await api.GET("/api/transactions", { params: { query: { page_size: 100 } } })),
  refetchInterval: 5_000,
});

export type LogFilter = { model?: string; key_id?: string; status?: number };

export const requestsQuery = (filter: LogFilter) =>
  queryOptions({
    queryKey: ["requests", filter],
    queryFn: async () =>
      bodyOf(await api.GET("/api/requests", { params: { query: { ...filter, page_size: 100 } } })),
  });

export const requestQuery = (requestId: string) =>
  queryOptions({
    queryKey: ["request", requestId],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/requests/{request_id}", { params: { path: { request_id: requestId } } }),
      ),
  });

export const summaryQuery = (sinceMs: number, groupBy: "model" | "hour") =>
  queryOptions({
    queryKey: ["summary", sinceMs, groupBy],
    queryFn: async () =>
      bodyOf(
        await api.GET("/api/summary", {
          params: { query: { since_ms: sinceMs, group_by: groupBy } },
        }),
      ),
    refetchInterval: 5_000,
  });

export function useCreateKey() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (body: Schemas["KeySettingsIn"]) =>
      bodyOf(await api.POST("/api/keys", { body })),
    onSuccess: () => client.invalidateQueries({ queryKey: ["keys"] }),
  });
}

export type KeyAction = "suspend" | "resume";

export function useKeyAction() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ keyId, action }: { keyId: string; action: KeyAction }) => {
      const params = { path: { key_id: keyId } };
      return bodyOf(
        action === "suspend"
          ? await api.POST("/api/keys/{key_id}/suspend", { params })
          : await api.POST("/api/keys/{key_id}/resume", { params }),
      );
    },
    onSuccess: () => client.invalidateQueries({ queryKey: ["keys"] }),
  });
}
