/** What the pages read and change of teams, limits, alerts and models' live figures. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";

import { api, bodyOf } from "./client";

export const teamsQuery = queryOptions({
  queryKey: ["teams"],
  queryFn: async () => bodyOf(await api.GET("/api/teams")),
});

export const limitsQuery = queryOptions({
  queryKey: ["limits"],
  queryFn: async () => bodyOf(await api.GET("/api/limits")),
  refetchInterval: 5_000,
});

export const alertsQuery = queryOptions({
  queryKey: ["alerts"],
  queryFn: async () => bodyOf(await api.GET("/api/alerts")),
  refetchInterval: 5_000,
});

export const rulesQuery = queryOptions({
  queryKey: ["alert-rules"],
  queryFn: async () => bodyOf(await api.GET("/api/alert-rules")),
});

export const webhooksQuery = queryOptions({
  queryKey: ["webhooks"],
  queryFn: async () => bodyOf(await api.GET("/api/webhooks")),
});

export const deliveriesQuery = queryOptions({
  queryKey: ["webhook-deliveries"],
  queryFn: async () => bodyOf(await api.GET("/api/webhook-deliveries")),
  refetchInterval: 5_000,
});

export const liveModelsQuery = queryOptions({
  queryKey: ["live-models"],
  queryFn: async () => bodyOf(await api.GET("/api/live/models")),
  refetchInterval: 5_000,
});

/** A change after which everything under these keys is read again. */
export function useChanging<Input, Output>(change: (input: Input) => Promise<Output>, ...keys: string[]) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSuccess: async () => {
      await Promise.all(keys.map((key) => client.invalidateQueries({ queryKey: [key] })));
    },
  });
}
