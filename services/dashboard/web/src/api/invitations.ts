/** Invitations, and the accounts a person belongs to, as TanStack Query hooks. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";

import { api, bodyOf, rememberSession, type Schemas } from "./client";
import { sessionQuery } from "./queries";
import { reconnect } from "./stream";

export const invitationsQuery = queryOptions({
  queryKey: ["invitations"],
  queryFn: async () => bodyOf(await api.GET("/api/invitations")),
});

export const accountsQuery = queryOptions({
  queryKey: ["accounts"],
  queryFn: async () => bodyOf(await api.GET("/api/accounts")),
  staleTime: 60_000,
});

/** What the holder of a link sees of it; the token is in the body, so that no log has it. */
export const offerQuery = (token: string) =>
  queryOptions({
    queryKey: ["offer", token],
    queryFn: async () => bodyOf(await api.POST("/api/invitation", { body: { token } })),
    retry: false,
    staleTime: Number.POSITIVE_INFINITY,
  });

function useChangeOfInvitations<Input, Output>(change: (input: Input) => Promise<Output>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: change,
    onSuccess: () => client.invalidateQueries({ queryKey: invitationsQuery.queryKey }),
  });
}

export const useInvite = () =>
  useChangeOfInvitations(async (body: Schemas["InvitationIn"]) =>
    bodyOf(await api.POST("/api/invitations", { body })),
  );

export const useRenewInvitation = () =>
  useChangeOfInvitations(async (invitationId: string) =>
    bodyOf(
      await api.POST("/api/invitations/{invitation_id}/renew", {
        params: { path: { invitation_id: invitationId } },
      }),
    ),
  );

export const useRevokeInvitation = () =>
  useChangeOfInvitations(async (invitationId: string) => {
    await api.DELETE("/api/invitations/{invitation_id}", {
      params: { path: { invitation_id: invitationId } },
    });
  });

/** A change that leads to another session: everything known was another account's, but for the offer of a link. */
function useEntrance<Input>(enter: (input: Input) => Promise<Schemas["SessionOut"]>) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: enter,
    onSuccess: (session) => {
      client.removeQueries({ predicate: (query) => query.queryKey[0] !== "offer" });
      client.setQueryData(sessionQuery.queryKey, rememberSession(session));
      // What is pushed until then is the other account's.
      reconnect();
    },
  });
}

/** How one can log in, beside with a password. */
export const logInOptionsQuery = queryOptions({
  queryKey: ["log-in-options"],
  queryFn: async () => bodyOf(await api.GET("/api/log-in-options")),
  staleTime: Number.POSITIVE_INFINITY,
});

export const pendingIdentityQuery = queryOptions({
  queryKey: ["pending-identity"],
  queryFn: async () => bodyOf(await api.GET("/api/oidc/pending")),
  retry: false,
  staleTime: 0,
});

export const useConnect = () =>
  useMutation({
    mutationFn: async (password: string) => {
      const connected = bodyOf(await api.POST("/api/oidc/connect", { body: { password } }));
      rememberSession(connected.session);
      return connected;
    },
  });

export const useSignUpInvited = () =>
  useEntrance(async (body: Schemas["InvitedSignUp"]) =>
    bodyOf(await api.POST("/api/invitation/sign-up", { body })),
  );

export const useLogIn = () =>
  useEntrance(async (body: Schemas["LogIn"]) => bodyOf(await api.POST("/api/session", { body })));

/** Ends the session and forgets what was known; the page asks again who is logged in. */
export function useLogOut() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async () => {
      await api.DELETE("/api/session");
    },
    onSuccess: () => client.resetQueries({ queryKey: sessionQuery.queryKey }),
  });
}

export const useAcceptInvitation = () =>
  useEntrance(async (token: string) =>
    bodyOf(await api.POST("/api/invitation/accept", { body: { token } })),
  );

export const useSwitchAccount = () =>
  useEntrance(async (accountId: string) =>
    bodyOf(
      await api.POST("/api/accounts/{account_id}/switch", {
        params: { path: { account_id: accountId } },
      }),
    ),
  );

export const passwordQuery = queryOptions({
  queryKey: ["password"],
  queryFn: async () => bodyOf(await api.GET("/api/password")),
});

/** The first password, after a log-in at the provider; `onDone` before the page knows of it. */
export function useSetPassword(onDone: () => void) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (password: string) => {
      await api.POST("/api/oidc/password", { body: { new_password: password } });
    },
    onSuccess: async () => {
      onDone();
      await client.invalidateQueries({ queryKey: ["password"] });
      await client.invalidateQueries({ queryKey: ["sessions"] });
    },
  });
}
