/** For staff: providers, switched on and off, with their credentials. */
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";

import type { Schemas } from "../api/client";
import { providersQuery, useCredential, useSwitchProvider, useTestProvider } from "../api/operator";
import { Button, Field, Sheet } from "../components/controls";
import {
  type About,
  AddCredential,
  EditCredential,
  IN_FORCE,
  nameOf,
  RemoveCredential,
  RotateCredential,
} from "../components/credential-forms";
import { ErrorNote, Nothing } from "../components/feedback";
import { Badge, Card, type Column, DataTable } from "../components/layout";
import { Id, Loaded, OperatorPage } from "../components/operator-frame";
import { ago, count, milliseconds, time, words } from "../format";

type Provider = Schemas["ProviderOut"];
type Credential = Schemas["CredentialOut"];
type Task = { kind: "add" } | { kind: "rotate" | "edit" | "remove"; credential: Credential };

function ProviderState({ provider }: { provider: Provider }) {
  if (!provider.enabled) return <Badge tone="bad">Switched off</Badge>;
  if (provider.usable) return <Badge tone="good">Usable</Badge>;
  return <Badge tone="warn">No credential</Badge>;
}

/** Asks the provider now, with this credential or the one used first, and says what came of it. */
function Test({ provider, credential }: { provider: Provider; credential?: Credential }) {
  const test = useTestProvider(provider.provider_id);
  const found = test.data;
  return (
    <div className="space-y-1">
      <Button
        aria-label={`Test ${credential ? `${nameOf(credential)} of ` : ""}${provider.name}`}
        isDisabled={test.isPending}
        onPress={() => test.mutate(credential?.credential_id ?? "")}
      >
        {test.isPending ? "Testing…" : "Test"}
      </Button>
      <div role="status" className="max-w-72 text-xs">
        {found && (
          <p className={found.ok ? "text-good" : "text-bad"}>
            {found.message} {found.latency_ms > 0 && <span className="text-muted">{milliseconds(found.latency_ms)}</span>}
          </p>
        )}
      </div>
      <ErrorNote error={test.error} />
    </div>
  );
}

function OnOff({ provider, credential }: About) {
  const { change } = useCredential(provider.provider_id, credential.credential_id);
  const { label, priority, weight, enabled } = credential;
  return (
    <>
      <Button
        aria-label={`Switch ${enabled ? "off" : "on"} ${nameOf(credential)}`}
        isDisabled={change.isPending}
        onPress={() => change.mutate({ label, priority, weight, enabled: !enabled })}
      >
        {enabled ? "Switch off" : "Switch on"}
      </Button>
      <ErrorNote error={change.error} />
    </>
  );
}

function CredentialCard({ provider, credential, onTask }: About & { onTask: (task: Task) => void }) {
  return (
    <li className="space-y-3 rounded-xl border border-line p-4">
      <div className="flex flex-wrap items-center gap-x-3 gap-y-1">
        <p className="font-medium">{nameOf(credential)}</p>
        {credential.enabled ? <Badge tone="good">In use</Badge> : <Badge tone="bad">Switched off</Badge>}
        <Id>{credential.masked}</Id>
      </div>
      <p className="text-xs text-muted">
        Priority {credential.priority}, weight {credential.weight}
        {credential.set_at && (
          <>
            ; stored <span title={time(credential.set_at)}>{ago(credential.set_at)}</span>
          </>
        )}
      </p>
      <div className="flex flex-wrap items-start gap-2">
        <Test provider={provider} credential={credential} />
        <OnOff provider={provider} credential={credential} />
        <Button aria-label={`Edit ${nameOf(credential)}`} onPress={() => onTask({ kind: "edit", credential })}>
          Edit
        </Button>
        <Button aria-label={`Rotate ${nameOf(credential)}`} onPress={() => onTask({ kind: "rotate", credential })}>
          Rotate
        </Button>
        <Button look="danger" aria-label={`Remove ${nameOf(credential)}`} onPress={() => onTask({ kind: "remove", credential })}>
          Remove
        </Button>
      </div>
    </li>
  );
}

function Line({ label, children }: { label: string; children: ReactNode }) {
  return (
    <div className="contents">
      <dt className="text-muted">{label}</dt>
      <dd className="min-w-0 break-all">{children}</dd>
    </div>
  );
}

function ProviderSheet({ provider, onTask, onClose }: { provider: Provider; onTask: (task: Task) => void; onClose: () => void }) {
  const change = useSwitchProvider(provider.provider_id);
  const inOrder = [...provider.credentials].sort((a, b) => a.priority - b.priority);
  return (
    <Sheet title={provider.name} isOpen wide onClose={onClose}>
      <dl className="grid grid-cols-[auto_1fr] gap-x-4 gap-y-1">
        <Line label="State"><ProviderState provider={provider} /></Line>
        <Line label="Speaks">{words(provider.kind)}</Line>
        <Line label="Address"><Id>{provider.base_url}</Id></Line>
      </dl>
      <div className="flex flex-wrap items-center gap-3">
        <Button look={provider.enabled ? "danger" : "primary"} isDisabled={change.isPending} onPress={() => change.mutate(!provider.enabled)}>
          {provider.enabled ? "Switch the provider off" : "Switch the provider on"}
        </Button>
        <p role="status" className="text-xs text-muted">
          {change.isSuccess ? IN_FORCE : "While it is off, its models are served elsewhere or not at all."}
        </p>
      </div>
      <ErrorNote error={change.error} />
      <div className="flex items-center justify-between gap-3">
        <h3 className="font-medium">Credentials</h3>
        <Button look="primary" onPress={() => onTask({ kind: "add" })}>Add a credential</Button>
      </div>
      {inOrder.length ? (
        <ul aria-label="Credentials" className="space-y-3">
          {inOrder.map((credential) => (
            <CredentialCard key={credential.credential_id} provider={provider} credential={credential} onTask={onTask} />
          ))}
        </ul>
      ) : (
        <p className="text-muted">
          {provider.credential_required ? "It has none yet, and is not used before it has one." : "It needs none."}
        </p>
      )}
      <p className="text-xs text-muted">Every change is {IN_FORCE.toLowerCase()} It is noted under your name.</p>
      <div className="text-right">
        <Button onPress={onClose}>Close</Button>
      </div>
    </Sheet>
  );
}

function TaskForm({ provider, task, onClose }: { provider: Provider; task: Task; onClose: () => void }) {
  switch (task.kind) {
    case "add":
      return <AddCredential provider={provider} onClose={onClose} />;
    case "rotate":
      return <RotateCredential provider={provider} credential={task.credential} onClose={onClose} />;
    case "edit":
      return <EditCredential provider={provider} credential={task.credential} onClose={onClose} />;
    case "remove":
      return <RemoveCredential provider={provider} credential={task.credential} onClose={onClose} />;
  }
}

function columnsOf(open: (provider: Provider) => void): Column<Provider>[] {
  return [
    {
      title: "Provider",
      cell: (row) => (
        <div className="min-w-0">
          <button type="button" onClick={() => open(row)} className="text-left font-medium text-accent hover:underline">
            {row.name}
          </button>
          <p className="hidden break-all text-xs text-muted md:block">{row.base_url}</p>
          <p className="mt-1 md:hidden"><ProviderState provider={row} /></p>
        </div>
      ),
      sort: (row) => row.name,
    },
    { title: "Speaks", cell: (row) => words(row.kind), wide: true },
    { title: "State", cell: (row) => <ProviderState provider={row} />, wide: true },
    {
      title: "Credentials",
      align: "right",
      cell: (row) => (row.credentials.length ? count(row.credentials.length) : "–"),
      sort: (row) => row.credentials.length,
    },
    { title: "Test", cell: (row) => <Test provider={row} /> },
  ];
}

export function OperatorProvidersPage() {
  const providers = useQuery(providersQuery);
  const [typed, setTyped] = useState("");
  const [openId, setOpenId] = useState<string | null>(null);
  const [task, setTask] = useState<Task | null>(null);
  const columns = columnsOf((provider) => setOpenId(provider.provider_id));
  const open = providers.data?.find((one) => one.provider_id === openId);
  const usableFirst = (rows: Provider[]) =>
    rows
      .filter((one) => `${one.name} ${one.provider_id}`.toLowerCase().includes(typed.trim().toLowerCase()))
      .sort((a, b) => Number(b.usable) - Number(a.usable));
  return (
    <OperatorPage title="Providers" about="Where models are served, and whether each takes its credentials.">
      <div className="max-w-md">
        <Field label="Search" placeholder="Part of a provider's name" value={typed} onChange={setTyped} type="search" />
      </div>
      <Card>
        <Loaded query={providers}>
          {(rows) => {
            if (!rows.length) return <Nothing title="No providers yet">Register one with mesh admin providers put.</Nothing>;
            const fitting = usableFirst(rows);
            if (!fitting.length) return <Nothing title="No provider fits">Search for less of its name.</Nothing>;
            return <DataTable label="Providers" columns={columns} rows={fitting} keyOf={(row) => row.provider_id} />;
          }}
        </Loaded>
      </Card>
      {open && !task && <ProviderSheet provider={open} onTask={setTask} onClose={() => setOpenId(null)} />}
      {open && task && <TaskForm provider={open} task={task} onClose={() => setTask(null)} />}
    </OperatorPage>
  );
}
