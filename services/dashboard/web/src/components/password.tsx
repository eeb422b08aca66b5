/** The person's password: changed with the one there is, or the first one, after logging in at the provider again. */
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import type { FormEvent } from "react";

import { passwordQuery, useSetPassword } from "../api/invitations";
import { useChangePassword } from "../api/queries";
import { Button, Field } from "./controls";
import { ErrorNote, Waiting } from "./feedback";
import { Card } from "./layout";
import { ProviderProblem } from "./provider-log-in";

const NEW = {
  name: "new",
  type: "password",
  label: "New password",
  autoComplete: "new-password",
  hint: "At least 10 characters.",
  isRequired: true,
} as const;

function Change({ isNew }: { isNew: boolean }) {
  const change = useChangePassword();
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const fields = event.currentTarget;
    change.mutate(
      { current_password: String(form.get("current")), new_password: String(form.get("new")) },
      { onSuccess: () => fields.reset() },
    );
  };
  return (
    <form className="grid max-w-md gap-4 p-4" onSubmit={submit}>
      <ErrorNote error={change.error} />
      {change.isSuccess && <p role="status" className="text-good">Changed. Every other session has ended.</p>}
      {isNew && !change.isSuccess && <p role="status" className="text-good">Set. Every other session has ended.</p>}
      <Field name="current" type="password" label="Current password" autoComplete="current-password" isRequired />
      <Field {...NEW} />
      <div>
        <Button look="primary" type="submit" isDisabled={change.isPending}>Change password</Button>
      </div>
    </form>
  );
}

/** `confirmed`: the person comes from the provider, where they have just logged in. */
function First({ provider, confirmed, set }: { provider: string | null; confirmed: boolean; set: ReturnType<typeof useSetPassword> }) {
  const search = useSearch({ from: "/inside/settings" });
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    set.mutate(String(new FormData(event.currentTarget).get("new")));
  };
  if (!provider) {
    return <p className="p-4 text-muted">You have none, and the log-in provider that you came through is not set up any more. Ask your operator.</p>;
  }
  return (
    <form className="grid max-w-md gap-4 p-4" onSubmit={submit}>
      {set.error ? <ErrorNote error={set.error} /> : <ProviderProblem {...search} />}
      {confirmed ? (
        <>
          <p className="text-muted">Choose one. Afterwards you can log in with it or with {provider}.</p>
          <Field {...NEW} autoFocus />
          <div>
            <Button look="primary" type="submit" isDisabled={set.isPending}>Set password</Button>
          </div>
        </>
      ) : (
        <>
          <p className="text-muted">
            You have none: you log in with {provider}. To set one, log in there once more, so that nobody else who finds
            this page open can.
          </p>
          <p>
            <a
              href="/api/oidc/start?purpose=password"
              className="inline-block rounded-lg border border-line bg-surface px-3 py-1.5 font-medium hover:bg-canvas"
            >
              Confirm with {provider}
            </a>
          </p>
        </>
      )}
    </form>
  );
}

export function Password() {
  const state = useQuery(passwordQuery);
  const search = useSearch({ from: "/inside/settings" });
  const navigate = useNavigate({ from: "/settings" });
  const set = useSetPassword(() => void navigate({ search: {}, replace: true }));
  return (
    <Card title="Password">
      {state.isPending ? <Waiting rows={3} /> : <ErrorNote error={state.error} />}
      {state.data?.is_set === true && <Change isNew={set.isSuccess} />}
      {state.data?.is_set === false && (
        <First provider={state.data.oidc_name} confirmed={!!search.set_password} set={set} />
      )}
    </Card>
  );
}
