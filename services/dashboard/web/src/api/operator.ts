/** What staff read and change, as TanStack Query hooks; every change is read again at once. */
import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";

import { api, bodyOf, type Schemas } from "./client";
import { useChanging } from "./limits";

const LIVE_MS = 5_000;

export const foundAccountsQuery = (search: string) =>
  infiniteQueryOptions({
    queryKey: ["operator-accounts", search],
    queryFn: async ({ pageParam }) =>
      bodyOf(await api.GET("/api/operator/accounts", { params: { query: { search, page_token: pageParam } } })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_page_token || undefined,
  });

export const accountQuery = (accountId: string) =>
  queryOptions({
    queryKey: ["operator-account", accountId],
    queryFn: async () =>
      bodyOf(await api.GET("/api/operator/accounts/{account_id}", { params: { path: { account_id: accountId } } })),
    retry: false,
  });

export const providersQuery = queryOptions({
  queryKey: ["operator-providers"],
  queryFn: async () => bodyOf(await api.GET("/api/operator/providers")),
});

export const pricedModelsQuery = queryOptions({
  queryKey: ["operator-models"],
  queryFn: async () => bodyOf(await api.GET("/api/operator/models")),
});

export const priceHistoryQuery = (modelId: string) =>
  queryOptions({
    queryKey: ["operator-prices", modelId],
    queryFn: async () => bodyOf(await api.GET("/api/operator/prices", { params: { query: { model_id: modelId } } })),
  });

export const grantsQuery = (unresolved: boolean) =>
  infiniteQueryOptions({
    queryKey: ["operator-grants", unresolved],
    queryFn: async ({ pageParam }) =>
      bodyOf(await api.GET("/api/operator/grants", { params: { query: { unresolved, page_token: pageParam } } })),
    initialPageParam: "",
    getNextPageParam: (page) => page.next_page_token || undefined,
    refetchInterval: LIVE_MS,
  });

export const differencesQuery = queryOptions({
  queryKey: ["operator-differences"],
  queryFn: async () => bodyOf(await api.GET("/api/operator/differences")),
});

export const consumersQuery = queryOptions({
  queryKey: ["operator-consumers"],
  queryFn: async () => bodyOf(await api.GET("/api/operator/consumers")),
  refetchInterval: LIVE_MS,
});

export type LetterStatus = Schemas["DeadLetterOut"]["status"];

export const deadLettersQuery = (status: LetterStatus | null) =>
  queryOptions({
    queryKey: ["operator-dead-letters", status],
    queryFn: async () => bodyOf(await api.GET("/api/operator/dead-letters", { params: { query: { status } } })),
    refetchInterval: 3 * LIVE_MS,
  });

const letterAt = (letter: Schemas["DeadLetterOut"]) => ({ path: { keeper: letter.service, position: letter.position } });

export const deadLetterQuery = (letter: Schemas["DeadLetterOut"]) =>
  queryOptions({
    queryKey: ["operator-dead-letter", letter.service, letter.position],
    queryFn: async () =>
      bodyOf(await api.GET("/api/operator/dead-letters/{keeper}/{position}", { params: letterAt(letter) })),
  });

export function useAccountChanges(accountId: string) {
  const params = { path: { account_id: accountId } };
  const keys = ["operator-account", "operator-accounts", "audit"];
  return {
    suspend: useChanging(
      async (body: Schemas["Suspension"]) =>
        bodyOf(await api.POST("/api/operator/accounts/{account_id}/suspend", { params, body })),
      ...keys,
    ),
    resume: useChanging(
      async () => bodyOf(await api.POST("/api/operator/accounts/{account_id}/resume", { params })),
      ...keys,
    ),
    promo: useChanging(
      async (body: Schemas["Promo"]) =>
        bodyOf(await api.POST("/api/operator/accounts/{account_id}/promo", { params, body })),
      ...keys,
    ),
  };
}

const PROVIDERS = ["operator-providers", "operator-models", "audit"];

/** Without a credential's id it is the one that is used first. */
export const useTestProvider = (providerId: string) =>
  useChanging(async (credentialId: string) =>
    bodyOf(
      await api.POST("/api/operator/providers/{provider_id}/test", {
        params: { path: { provider_id: providerId }, query: { credential_id: credentialId } },
      }),
    ),
  );

export const useSwitchProvider = (providerId: string) =>
  useChanging(
    async (enabled: boolean) =>
      bodyOf(
        await api.PUT("/api/operator/providers/{provider_id}/enabled", {
          params: { path: { provider_id: providerId } },
          body: { enabled },
        }),
      ),
    ...PROVIDERS,
  );

export const useAddCredential = (providerId: string) =>
  useChanging(
    async (body: Schemas["NewCredential"]) =>
      bodyOf(
        await api.POST("/api/operator/providers/{provider_id}/credentials", {
          params: { path: { provider_id: providerId } },
          body,
        }),
      ),
    ...PROVIDERS,
  );

export function useCredential(providerId: string, credentialId: string) {
  const params = { path: { provider_id: providerId, credential_id: credentialId } };
  return {
    change: useChanging(
      async (body: Schemas["CredentialSettings"]) =>
        bodyOf(await api.PUT("/api/operator/providers/{provider_id}/credentials/{credential_id}", { params, body })),
      ...PROVIDERS,
    ),
    rotate: useChanging(
      async (credential: string) =>
        bodyOf(
          await api.PUT("/api/operator/providers/{provider_id}/credentials/{credential_id}/secret", {
            params,
            body: { credential },
          }),
        ),
      ...PROVIDERS,
    ),
    remove: useChanging(
      async () =>
        bodyOf(await api.DELETE("/api/operator/providers/{provider_id}/credentials/{credential_id}", { params })),
      ...PROVIDERS,
    ),
  };
}

export const usePublishPrice = () =>
  useChanging(
    async (body: Schemas["NewPrice"]) => bodyOf(await api.POST("/api/operator/prices", { body })),
    "operator-prices",
    "operator-models",
    "models",
  );

export const useWriteOff = (grantId: string) =>
  useChanging(
    async (reason: string) =>
      bodyOf(
        await api.POST("/api/operator/grants/{grant_id}/write-off", {
          params: { path: { grant_id: grantId } },
          body: { reason },
        }),
      ),
    "operator-grants",
  );

export const useReconcile = () =>
  useChanging(async () => bodyOf(await api.POST("/api/operator/reconcile")), "operator-differences");

export const useVerify = () => useChanging(async () => bodyOf(await api.POST("/api/operator/verify")));

const LETTERS = ["operator-dead-letters", "operator-dead-letter", "operator-consumers", "audit"];

export const useRetryLetter = () =>
  useChanging(
    async (letter: Schemas["DeadLetterOut"]) =>
      bodyOf(
        await api.POST("/api/operator/dead-letters/{keeper}/{position}/retry", { params: letterAt(letter) }),
      ),
    ...LETTERS,
  );

export const useDiscardLetter = (letter: Schemas["DeadLetterOut"]) =>
  useChanging(
    async (reason: string) =>
      bodyOf(
        await api.POST("/api/operator/dead-letters/{keeper}/{position}/discard", {
          params: letterAt(letter),
          body: { reason },
        }),
      ),
    ...LETTERS,
  );
