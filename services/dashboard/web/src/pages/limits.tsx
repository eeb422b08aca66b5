/** Teams, and what the account, members, teams and models may spend and ask. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import { api, bodyOf, type Schemas } from "../api/client";
import { limitsQuery, teamsQuery, useChanging } from "../api/limits";
import { membersQuery, modelsQuery, sessionQuery } from "../api/queries";
import { Button, Choice, Field, Sheet } from "../components/controls";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page } from "../components/layout";
import { CapFields, limitsOf, RateFields, rates, SpendBar } from "../components/limit-fields";

type Team = Schemas["TeamOut"];
type Scope = Schemas["ScopeOut"];

const KINDS: [string, string][] = [
  ["account", "The account"],
  ["team", "A team"],
  ["member", "A member"],
  ["account_model", "A model"],
];

/** What a scope is called, from what the account has. */
function useNames(): (scope: string) => string {
  const teams = useQuery(teamsQuery);
  const members = useQuery(membersQuery);
  return (scope) => {
    const [kind = "", ...rest] = scope.split(":");
    const id = rest.join(":");
    if (kind === "account") return "The whole account";
    if (kind === "team") return `Team ${teams.data?.find((one) => one.team_id === id)?.name ?? id}`;
    if (kind === "member") return `Member ${members.data?.find((one) => one.user_id === id)?.email ?? id}`;
    return `Model ${id}`;
  };
}

function LimitForm({ row, onClose }: { row: Scope | null; onClose: () => void }) {
  const teams = useQuery(teamsQuery);
  const members = useQuery(membersQuery);
  const models = useQuery(modelsQuery);
  const [kind, setKind] = useState("account");
  const save = useChanging(
    async (body: Schemas["ScopeLimitsIn"]) => bodyOf(await api.PUT("/api/limits", { body })),
    "limits",
  );
  const choices: Record<string, [string, string][]> = {
    team: (teams.data ?? []).map((one) => [one.team_id, one.name]),
    member: (members.data ?? []).map((one) => [one.user_id, one.email]),
    account_model: (models.data ?? []).map((one) => [one.model_id, one.model_id]),
  };
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    const scope = row?.scope ?? (kind === "account" ? kind : `${kind}:${String(form.get("id") ?? "")}`);
    save.mutate({ scope, ...limitsOf(form) }, { onSuccess: onClose });
  };
  const offered = choices[kind];
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={save.error} />
      {!row && (
        <div className="flex flex-wrap gap-3">
          <Choice label="Of" value={kind} options={KINDS} onChange={setKind} all={null} />
          {offered && <Choice key={kind} label="Which" name="id" options={offered} all={offered.length ? null : "None yet"} />}
        </div>
      )}
      <CapFields limits={row?.limits} />
      <RateFields limits={row?.limits} />
      <p className="text-xs text-muted">An empty field is no limit. The strictest of all limits that a request is under decides.</p>
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Cancel</Button>
        <Button look="primary" type="submit" isDisabled={save.isPending}>Save limits</Button>
      </div>
    </form>
  );
}

function isSet(row: Scope): boolean {
  return row.limits.spend_cap_usd !== null || rates(row.limits) !== "";
}

function Limits({ mayChange }: { mayChange: boolean }) {
  const limits = useQuery(limitsQuery);
  const nameOf = useNames();
  const [shown, show] = useState<{ row: Scope | null } | null>(null);
  const rows = (limits.data ?? []).filter(isSet);
  const columns: Column<Scope>[] = [
    { title: "Of", sort: (row) => nameOf(row.scope), cell: (row) => <span className="block font-medium break-words">{nameOf(row.scope)}</span> },
    {
      title: "Spend",
      cell: (row) => (
        <SpendBar row={{ ...row.limits, spent_usd: row.spent_usd, held_usd: row.held_usd }} of={nameOf(row.scope)} />
      ),
    },
    { title: "Rates", cell: (row) => rates(row.limits) || <span className="text-muted">none</span>, wide: true },
    ...(mayChange
      ? [
          {
            title: "Actions",
            align: "right" as const,
            cell: (row: Scope) => (
              <Button aria-label={`Change limits of ${nameOf(row.scope)}`} onPress={() => show({ row })}>Change</Button>
            ),
          },
        ]
      : []),
  ];
  return (
    <Card title="Limits">
      <ErrorNote error={limits.error} />
      {limits.isPending ? (
        <Waiting rows={2} />
      ) : rows.length ? (
        <DataTable label="Limits" columns={columns} rows={rows} keyOf={(row) => row.scope} />
      ) : (
        <Nothing unless={limits.error} title="No limits yet">Beside the caps of keys nothing holds back spending but the balance.</Nothing>
      )}
      {mayChange && (
        <div className="border-t border-line p-3">
          <Button onPress={() => show({ row: null })}>Set a limit</Button>
        </div>
      )}
      <Sheet title={shown?.row ? `Limits of: ${nameOf(shown.row.scope)}` : "Set a limit"} isOpen={shown !== null} onClose={() => show(null)}>
        {shown && <LimitForm row={shown.row} onClose={() => show(null)} />}
      </Sheet>
    </Card>
  );
}

function TeamForm({ team, onClose }: { team: Team | null; onClose: () => void }) {
  const members = useQuery(membersQuery);
  const teams = useQuery(teamsQuery);
  const now = teams.data?.find((one) => one.team_id === team?.team_id) ?? team;
  const save = useChanging(
    async (name: string) =>
      team
        ? bodyOf(await api.PATCH("/api/teams/{team_id}", { params: { path: { team_id: team.team_id } }, body: { name } }))
        : bodyOf(await api.POST("/api/teams", { body: { name } })),
    "teams",
  );
  const put = useChanging(async ({ userId, isIn }: { userId: string; isIn: boolean }) => {
    const params = { path: { team_id: team?.team_id ?? "", user_id: userId } };
    if (isIn) await api.PUT("/api/teams/{team_id}/members/{user_id}", { params });
    else await api.DELETE("/api/teams/{team_id}/members/{user_id}", { params });
  }, "teams");
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    save.mutate(String(new FormData(event.currentTarget).get("name")), { onSuccess: onClose });
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={save.error ?? put.error} />
      <Field name="name" label="Name" isRequired autoFocus maxLength={100} defaultValue={team?.name ?? ""} />
      {now && (
        <fieldset className="space-y-2" disabled={put.isPending}>
          <legend className="mb-1 font-medium">Members</legend>
          {(members.data ?? []).map((one) => (
            <label key={one.user_id} className="flex items-center gap-2">
              <input
                type="checkbox"
                className="size-4 accent-accent"
                checked={now.member_user_ids.includes(one.user_id)}
                onChange={(event) => put.mutate({ userId: one.user_id, isIn: event.target.checked })}
              />
              {one.name || one.email}
            </label>
          ))}
        </fieldset>
      )}
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Close</Button>
        <Button look="primary" type="submit" isDisabled={save.isPending}>{team ? "Rename" : "Create team"}</Button>
      </div>
    </form>
  );
}

function Teams({ mayChange }: { mayChange: boolean }) {
  const teams = useQuery(teamsQuery);
  const members = useQuery(membersQuery);
  const [shown, show] = useState<{ team: Team | null } | null>(null);
  const remove = useChanging(
    async (teamId: string) => {
      await api.DELETE("/api/teams/{team_id}", { params: { path: { team_id: teamId } } });
    },
    "teams",
    "limits",
  );
  const names = new Map((members.data ?? []).map((one) => [one.user_id, one.name || one.email]));
  const columns: Column<Team>[] = [
    { title: "Team", sort: (row) => row.name, cell: (row) => <span className="font-medium">{row.name}</span> },
    {
      title: "Members",
      cell: (row) => row.member_user_ids.map((id) => names.get(id) ?? id).join(", ") || <span className="text-muted">nobody yet</span>,
    },
    ...(mayChange
      ? [
          {
            title: "Actions",
            align: "right" as const,
            cell: (row: Team) => (
              <span className="inline-flex flex-wrap justify-end gap-2">
                <Button aria-label={`Change team ${row.name}`} onPress={() => show({ team: row })}>Change</Button>
                <Button aria-label={`Remove team ${row.name}`} look="danger" isDisabled={remove.isPending} onPress={() => remove.mutate(row.team_id)}>
                  Remove
                </Button>
              </span>
            ),
          },
        ]
      : []),
  ];
  return (
    <Card title="Teams">
      <ErrorNote error={teams.error ?? remove.error} />
      {teams.isPending ? (
        <Waiting rows={2} />
      ) : teams.data?.length ? (
        <DataTable label="Teams" columns={columns} rows={teams.data} keyOf={(row) => row.team_id} />
      ) : (
        <Nothing unless={teams.error} title="No teams yet">A team holds keys together under one cap; a key is put in one where it is edited.</Nothing>
      )}
      {mayChange && (
        <div className="border-t border-line p-3">
          <Button onPress={() => show({ team: null })}>Create a team</Button>
        </div>
      )}
      <Sheet title={shown?.team ? `Team ${shown.team.name}` : "Create a team"} isOpen={shown !== null} onClose={() => show(null)}>
        {shown && <TeamForm team={shown.team} onClose={() => show(null)} />}
      </Sheet>
    </Card>
  );
}

export function LimitsPage() {
  const session = useQuery(sessionQuery);
  const mayChange = session.data?.role === "owner" || session.data?.role === "admin";
  return (
    <Page title="Limits" about="What the account, its teams, members and models may spend and ask. In force everywhere within a second.">
      <Limits mayChange={mayChange} />
      <Teams mayChange={mayChange} />
    </Page>
  );
}
