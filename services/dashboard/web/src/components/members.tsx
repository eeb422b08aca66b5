/** Who belongs to the account, and who is invited into it. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import type { Schemas } from "../api/client";
import { invitationsQuery, useInvite, useRenewInvitation, useRevokeInvitation } from "../api/invitations";
import { membersQuery, useChangeMember, useRemoveMember } from "../api/queries";
import { time } from "../format";
import { Button, Choice, Copyable, Field, Sheet } from "./controls";
import { ErrorNote, Waiting } from "./feedback";
import { Card, type Column, DataTable } from "./layout";

type Role = Schemas["MemberChange"]["role"];
type Sent = Schemas["InvitationSent"];
const ROLES: [Role, string][] = [
  ["viewer", "Viewer: sees everything"],
  ["developer", "Developer: makes keys"],
  ["admin", "Admin: members and money"],
  ["owner", "Owner"],
];

const MAILED: Record<Sent["mailed"], string> = {
  sent: "The link was sent to this address.",
  failed: "The letter could not be sent: hand the link over yourself.",
  not_set_up: "Hand the link over yourself: no mail server is set up here.",
};

function SentLink({ sent, onClose }: { sent: Sent; onClose: () => void }) {
  return (
    <div className="space-y-4">
      <p>
        <span className="font-medium">{sent.invitation.email}</span> can join as {sent.invitation.role} with this
        link, once, until {time(sent.invitation.expires_at)}. {MAILED[sent.mailed]}
      </p>
      <Copyable text={sent.link} label="invitation link" />
      <p className="text-xs text-muted">The link is not shown again; a new one can be made at any time.</p>
      <div className="flex justify-end">
        <Button look="primary" onPress={onClose}>Done</Button>
      </div>
    </div>
  );
}

function InviteForm({ onSent, onClose }: { onSent: (sent: Sent) => void; onClose: () => void }) {
  const invite = useInvite();
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    invite.mutate(
      { email: String(form.get("email")), role: String(form.get("role")) as Role },
      { onSuccess: onSent },
    );
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={invite.error} />
      <Field name="email" type="email" label="E-mail" isRequired autoFocus hint="Only this person can use the link." />
      <Choice label="Role" name="role" value="developer" options={ROLES} all={null} />
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Cancel</Button>
        <Button look="primary" type="submit" isDisabled={invite.isPending}>Invite</Button>
      </div>
    </form>
  );
}

function Invitations({ mayChange, onSent }: { mayChange: boolean; onSent: (sent: Sent) => void }) {
  const invitations = useQuery(invitationsQuery);
  const renew = useRenewInvitation();
  const revoke = useRevokeInvitation();
  const columns: Column<Schemas["InvitationOut"]>[] = [
    {
      title: "Invited",
      cell: (row) => (
        <div>
          <p className="max-w-44 truncate font-medium md:max-w-none" title={row.email}>{row.email}</p>
          <p className={`text-xs ${row.expired ? "text-warn" : "text-muted"}`}>
            {row.expired ? "expired" : `until ${time(row.expires_at)}`}
          </p>
        </div>
      ),
    },
    { title: "Role", cell: (row) => row.role, wide: true },
    ...(mayChange
      ? [
          {
            title: "Actions",
            align: "right" as const,
            cell: (row: Schemas["InvitationOut"]) => (
              <span className="inline-flex flex-wrap justify-end gap-2">
                <Button
                  aria-label={`New link for ${row.email}`}
                  isDisabled={renew.isPending}
                  onPress={() => renew.mutate(row.invitation_id, { onSuccess: onSent })}
                >
                  New link
                </Button>
                <Button
                  look="danger"
                  aria-label={`Revoke the invitation of ${row.email}`}
                  isDisabled={revoke.isPending}
                  onPress={() => revoke.mutate(row.invitation_id)}
                >
                  Revoke
                </Button>
              </span>
            ),
          },
        ]
      : []),
  ];
  const problem = invitations.error ?? renew.error ?? revoke.error;
  if (!problem && !invitations.data?.length) return null;
  return (
    <div className="border-t border-line">
      <ErrorNote error={problem} />
      {!!invitations.data?.length && (
        <DataTable label="Open invitations" columns={columns} rows={invitations.data} keyOf={(row) => row.invitation_id} />
      )}
    </div>
  );
}

export function Members({ mayChange, ownEmail }: { mayChange: boolean; ownEmail: string }) {
  const members = useQuery(membersQuery);
  const change = useChangeMember();
  const remove = useRemoveMember();
  const [inviting, setInviting] = useState(false);
  const [sent, setSent] = useState<Sent | null>(null);
  const close = () => {
    setInviting(false);
    setSent(null);
  };
  const columns: Column<Schemas["MemberOut"]>[] = [
    {
      title: "Person",
      sort: (row) => row.name || row.email,
      cell: (row) => (
        <div>
          <p className="max-w-24 truncate font-medium sm:max-w-none">{row.name || row.email}</p>
          <p className="max-w-24 truncate text-xs text-muted sm:max-w-none" title={row.email}>{row.email}</p>
        </div>
      ),
    },
    {
      title: "Role",
      cell: (row) =>
        mayChange ? (
          <Choice
            label={`Role of ${row.email}`}
            hideLabel
            narrow
            value={row.role}
            options={ROLES}
            all={null}
            onChange={(role) => change.mutate({ userId: row.user_id, role: role as Role })}
          />
        ) : (
          row.role
        ),
    },
    { title: "Added", sort: (row) => row.added_at, cell: (row) => time(row.added_at), wide: true },
    ...(mayChange
      ? [
          {
            title: "Actions",
            align: "right" as const,
            cell: (row: Schemas["MemberOut"]) => (
              <Button
                look="danger"
                aria-label={row.email === ownEmail ? "Leave the account" : `Remove ${row.email}`}
                isDisabled={remove.isPending}
                onPress={() => remove.mutate(row.user_id)}
              >
                {row.email === ownEmail ? "Leave" : "Remove"}
              </Button>
            ),
          },
        ]
      : []),
  ];
  return (
    <Card title="Members">
      <ErrorNote error={members.error ?? change.error ?? remove.error} />
      {members.data ? (
        <DataTable label="Members" columns={columns} rows={members.data} keyOf={(row) => row.user_id} />
      ) : (
        members.isPending && <Waiting rows={2} />
      )}
      <Invitations mayChange={mayChange} onSent={setSent} />
      {mayChange && (
        <div className="border-t border-line p-3">
          <Button onPress={() => setInviting(true)}>Invite a person</Button>
        </div>
      )}
      <Sheet title={sent ? "Invitation" : "Invite a person"} isOpen={inviting || sent !== null} onClose={close}>
        {sent ? <SentLink sent={sent} onClose={close} /> : <InviteForm onSent={setSent} onClose={close} />}
      </Sheet>
    </Card>
  );
}
