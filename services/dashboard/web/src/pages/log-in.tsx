/** Log-in and sign-up, one form with two verbs. */
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { type FormEvent, useState } from "react";

import { api, bodyOf, rememberSession } from "../api/client";
import { sessionQuery } from "../api/queries";
import { Button, Field } from "../components/controls";
import { Connect, ProviderButton, ProviderProblem } from "../components/provider-log-in";
import { ErrorNote } from "../components/feedback";

export function LogInPage() {
  const [isNew, setIsNew] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState(false);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const search = useSearch({ from: "/log-in" });

  const submit = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const email = String(form.get("email"));
    const password = String(form.get("password"));
    setBusy(true);
    setError(null);
    try {
      const answer = isNew
        ? await api.POST("/api/sign-up", {
            body: { email, password, name: String(form.get("name") ?? "") },
          })
        : await api.POST("/api/session", { body: { email, password } });
      queries.setQueryData(sessionQuery.queryKey, rememberSession(bodyOf(answer)));
      await navigate({ to: "/" });
    } catch (problem) {
      setError(problem);
    } finally {
      setBusy(false);
    }
  };

  if (search.connect) return <Connect />;
  return (
    <main className="flex min-h-dvh items-center justify-center p-4">
      <form
        onSubmit={(event) => void submit(event)}
        className="w-full max-w-sm space-y-4 rounded-2xl border border-line bg-surface p-6"
      >
        <div className="flex items-center gap-3">
          <img src="/assets/icon.svg" alt="" className="size-9" />
          <h1 className="text-xl font-semibold">
            {isNew ? "Create an account" : "Log in to Mesh"}
          </h1>
        </div>
        {error ? <ErrorNote error={error} /> : <ProviderProblem {...search} />}
        {isNew && <Field name="name" label="Name" autoComplete="name" />}
        <Field name="email" type="email" label="E-mail" autoComplete="email" isRequired autoFocus />
        <Field
          name="password"
          type="password"
          label="Password"
          autoComplete={isNew ? "new-password" : "current-password"}
          isRequired
          {...(isNew ? { hint: "At least 10 characters." } : {})}
        />
        <div className="flex items-center justify-between">
          <Button look="primary" type="submit" isDisabled={busy}>
            {isNew ? "Sign up" : "Log in"}
          </Button>
          <button
            type="button"
            className="text-accent hover:underline"
            onClick={() => {
              setIsNew(!isNew);
              setError(null);
            }}
          >
            {isNew ? "I have an account" : "Create an account"}
          </button>
        </div>
        <ProviderButton to="/" />
      </form>
    </main>
  );
}
