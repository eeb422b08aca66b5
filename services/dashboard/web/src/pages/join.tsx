/** Where the link of an invitation leads: who invites, and the way in. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { type FormEvent, type ReactNode, useEffect, useState } from "react";

import { offerQuery, useAcceptInvitation, useLogIn, useLogOut, useSignUpInvited } from "../api/invitations";
import type { Schemas } from "../api/client";
import { sessionQuery } from "../api/queries";
import { Button, Field } from "../components/controls";
import { ErrorNote, Waiting } from "../components/feedback";
import { ProviderButton } from "../components/provider-log-in";
import { time } from "../format";

const KEPT = "mesh-invitation";

type Way = { token: string; offer: Schemas["OfferOut"]; onIn: () => void };

function SignUp({ token, offer, onIn }: Way) {
  const signUp = useSignUpInvited();
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    signUp.mutate(
      { token, name: String(form.get("name")), password: String(form.get("password")) },
      { onSuccess: onIn },
    );
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={signUp.error} />
      <Field label="E-mail" value={offer.email} isReadOnly autoComplete="email" />
      <Field name="name" label="Name" autoComplete="name" autoFocus />
      <Field name="password" type="password" label="Password" autoComplete="new-password" hint="At least 10 characters." isRequired />
      <Button look="primary" type="submit" isDisabled={signUp.isPending}>Sign up and join</Button>
    </form>
  );
}

function LogIn({ offer }: { offer: Schemas["OfferOut"] }) {
  const logIn = useLogIn();
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    logIn.mutate({ email: offer.email, password: String(new FormData(event.currentTarget).get("password")) });
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={logIn.error} />
      <p className="text-muted">You have a log-in here already: log in to join.</p>
      <Field label="E-mail" value={offer.email} isReadOnly autoComplete="email" />
      <Field name="password" type="password" label="Password" autoComplete="current-password" isRequired autoFocus />
      <Button look="primary" type="submit" isDisabled={logIn.isPending}>Log in</Button>
    </form>
  );
}

function Accept({ token, onIn }: { token: string; onIn: () => void }) {
  const accept = useAcceptInvitation();
  return (
    <div className="space-y-4">
      <ErrorNote error={accept.error} />
      <Button look="primary" isDisabled={accept.isPending} autoFocus onPress={() => accept.mutate(token, { onSuccess: onIn })}>
        Join
      </Button>
    </div>
  );
}

/** Somebody else is logged in in this browser. */
function WrongPerson({ email, invited }: { email: string; invited: string }) {
  const leave = useLogOut();
  return (
    <div className="space-y-4">
      <ErrorNote error={leave.error} />
      <p>
        The invitation is for <span className="font-medium break-all">{invited}</span>, and you are logged in as{" "}
        <span className="font-medium break-all">{email}</span>.
      </p>
      <Button look="primary" isDisabled={leave.isPending} onPress={() => leave.mutate()}>Log out and go on</Button>
    </div>
  );
}

function Frame({ title, children }: { title: string; children: ReactNode }) {
  return (
    <main className="flex min-h-dvh items-center justify-center p-4">
      <div className="w-full max-w-sm space-y-4 rounded-2xl border border-line bg-surface p-6">
        <div className="flex items-center gap-3">
          <img src="/assets/icon.svg" alt="" className="size-9" />
          <h1 className="min-w-0 text-xl font-semibold break-words">{title}</h1>
        </div>
        {children}
      </div>
    </main>
  );
}

export function JoinPage() {
  // Kept from the first moment: the address is tidied, so that the link is in no history.
  const [token] = useState(() => {
    // Kept across the way through a log-in provider, and no longer.
    const found = window.location.hash.slice(1) || (sessionStorage.getItem(KEPT) ?? "");
    sessionStorage.removeItem(KEPT);
    window.history.replaceState(window.history.state, "", window.location.pathname);
    return found;
  });
  // Another link in the same tab changes only what stands after the #.
  useEffect(() => {
    const again = () => window.location.reload();
    window.addEventListener("hashchange", again);
    return () => window.removeEventListener("hashchange", again);
  }, []);
  const offer = useQuery({ ...offerQuery(token), enabled: token !== "" });
  const session = useQuery({ ...sessionQuery, enabled: offer.isSuccess });
  const navigate = useNavigate();
  const onIn = () => void navigate({ to: "/" });

  if (token === "" || offer.error) {
    return (
      <Frame title="Invitation">
        {token === "" ? <p>This link is incomplete. Open the whole link that you were given.</p> : <ErrorNote error={offer.error} />}
        <Link to="/" className="text-accent hover:underline">To the control panel</Link>
      </Frame>
    );
  }
  if (!offer.data || session.isPending) {
    return (
      <Frame title="Invitation">
        <Waiting rows={3} />
      </Frame>
    );
  }
  const found = offer.data;
  return (
    <Frame title={`Join ${found.account_name}`}>
      <p>
        {found.invited_by || "The operator"} invites you as <span className="font-medium">{found.role}</span>. The
        invitation is good until {time(found.expires_at)}.
      </p>
      {session.data ? (
        session.data.email === found.email ? (
          <Accept token={token} onIn={onIn} />
        ) : (
          <WrongPerson email={session.data.email} invited={found.email} />
        )
      ) : found.has_user ? (
        <LogIn offer={found} />
      ) : (
        <SignUp token={token} offer={found} onIn={onIn} />
      )}
      {!session.data && <ProviderButton to="/join" onLeave={() => sessionStorage.setItem(KEPT, token)} />}
    </Frame>
  );
}
