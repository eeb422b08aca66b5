/** Logging in through a log-in provider: the button, what went wrong there, and connecting it with a password. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import type { FormEvent } from "react";

import { ApiError } from "../api/client";
import { logInOptionsQuery, pendingIdentityQuery, useConnect } from "../api/invitations";
import { sessionQuery } from "../api/queries";
import { Button, Field } from "./controls";
import { ErrorNote, Waiting } from "./feedback";

/** Shown only where a provider is set up. */
export function ProviderButton({ to, onLeave }: { to: "/" | "/join"; onLeave?: () => void }) {
  const options = useQuery(logInOptionsQuery);
  const name = options.data?.oidc_name;
  if (!name) return null;
  return (
    <div className="space-y-4">
      <p className="flex items-center gap-3 text-xs text-muted before:h-px before:flex-1 before:bg-line after:h-px after:flex-1 after:bg-line">
        or
      </p>
      <a
        href={`/api/oidc/start?to=${encodeURIComponent(to)}`}
        onClick={onLeave}
        className="block rounded-lg border border-line bg-surface px-3 py-2 text-center font-medium hover:bg-canvas"
      >
        Continue with {name}
      </a>
    </div>
  );
}

const PROBLEMS: Record<string, string> = {
  expired: "The log-in took too long, or was begun in another browser. Try again.",
  denied: "The log-in was stopped at the provider. Try again.",
  refused: "The provider's answer could not be verified, so nobody was logged in. Try again; if it stays, tell your operator.",
  unverified: "The provider does not vouch for your e-mail address, or you are no member of any account. Verify the address there, or ask for an invitation.",
  taken: "Your address belongs to another person of the same provider here. Ask your operator.",
  provider_away: "The log-in provider does not answer. Try again in a moment.",
};

export function ProviderProblem({ problem, request_id }: { problem?: string; request_id?: string }) {
  if (!problem) return null;
  const text = PROBLEMS[problem] ?? "The log-in did not work. Try again.";
  return <ErrorNote error={new ApiError(0, problem, text, request_id ?? "")} />;
}

/** The address has a log-in with a password: asked for once, it proves that both are the same person. */
export function Connect() {
  const pending = useQuery(pendingIdentityQuery);
  const connect = useConnect();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    connect.mutate(String(new FormData(event.currentTarget).get("password")), {
      onSuccess: ({ session, to }) => {
        queries.setQueryData(sessionQuery.queryKey, session);
        void navigate({ to: to === "/join" ? "/join" : "/" });
      },
    });
  };
  return (
    <main className="flex min-h-dvh items-center justify-center p-4">
      <form onSubmit={submit} className="w-full max-w-sm space-y-4 rounded-2xl border border-line bg-surface p-6">
        <div className="flex items-center gap-3">
          <img src="/assets/icon.svg" alt="" className="size-9" />
          <h1 className="text-xl font-semibold">One more step</h1>
        </div>
        <ErrorNote error={pending.error ?? connect.error} />
        {pending.isPending && <Waiting rows={2} />}
        {pending.data && (
          <>
            <p>
              <span className="font-medium break-all">{pending.data.email}</span> has a log-in with a password here. Enter it
              once to connect the two; afterwards either will do.
            </p>
            <Field name="password" type="password" label="Password" autoComplete="current-password" isRequired autoFocus />
            <Button look="primary" type="submit" isDisabled={connect.isPending}>Connect and log in</Button>
          </>
        )}
        <p>
          <Link to="/log-in" search={{}} className="text-accent hover:underline">Back to the log-in</Link>
        </p>
      </form>
    </main>
  );
}
