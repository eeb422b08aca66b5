/** What the pages read and change of teams, limits, alerts and live figures. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { api, bodyOf, type Schemas } from "./client";

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

/** The last minute as it is pushed; null while nothing was. A page out of sight holds no stream. */
export function useLiveFigures(): Schemas["LiveOut"] | null {
  const [figures, setFigures] = useState<Schemas["LiveOut"] | null>(null);
  useEffect(() => {
    let source: EventSource | undefined;
    const follow = () => {
      source?.close();
      source = undefined;
      if (document.hidden) return;
      source = new EventSource("/api/live");
      source.onerror = () => setFigures(null);
      source.onmessage = (event: MessageEvent<string>) => setFigures(JSON.parse(event.data) as Schemas["LiveOut"]);
    };
    follow();
    document.addEventListener("visibilitychange", follow);
    return () => {
      document.removeEventListener("visibilitychange", follow);
      source?.close();
    };
  }, []);
  return figures;
}

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
