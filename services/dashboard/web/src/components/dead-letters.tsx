/** For staff: messages that a consumer could not take. They are opened, sent again or discarded; none goes away. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { deadLetterQuery, deadLettersQuery, type LetterStatus, useDiscardLetter, useRetryLetter } from "../api/operator";
import { ago, count, time } from "../format";
import { Button, Choice, Sheet } from "./controls";
import { ErrorNote, Nothing } from "./feedback";
import { Badge, Card, type Column, DataTable, type Tone } from "./layout";
import { Asking, Id, Loaded, ReasonField } from "./operator-frame";
import { Away } from "./services-away";

type Letter = Schemas["DeadLetterOut"];

const STATES: Record<LetterStatus, { label: string; tone: Tone }> = {
  open: { label: "Open", tone: "warn" },
  sent_again: { label: "Sent again", tone: "good" },
  discarded: { label: "Discarded", tone: "bad" },
};
const NOTHING = {
  all: "Nothing was put aside",
  open: "No letter waits for a decision",
  sent_again: "None was sent again",
  discarded: "None was discarded",
};
const SHOWN = (Object.keys(STATES) as LetterStatus[]).map((name) => [name, STATES[name].label] as const);

function State({ letter }: { letter: Letter }) {
  const { label, tone } = STATES[letter.status];
  return <Badge tone={tone}>{label}</Badge>;
}

/** Who decided what about it, and why. */
function Decision({ letter }: { letter: Letter }) {
  if (!letter.decided_at) return null;
  return (
    <p className="break-words text-xs text-muted">
      {STATES[letter.status].label} {ago(letter.decided_at)} by {letter.decided_by}
      {letter.decision_reason && `: ${letter.decision_reason}`}
    </p>
  );
}

const placeOf = (letter: Letter) => `${letter.service} · ${letter.topic} / ${letter.partition} at ${letter.offset}`;

function Facts({ facts }: { facts: [string, string][] }) {
  return (
    <dl className="grid gap-x-4 gap-y-1 sm:grid-cols-[auto_1fr]">
      {facts
        .filter(([, value]) => value)
        .map(([name, value]) => (
          <div key={name} className="contents">
            <dt className="text-muted">{name}</dt>
            <dd className="break-all font-mono text-xs sm:py-0.5">{value}</dd>
          </div>
        ))}
    </dl>
  );
}

function Text({ label, children }: { label: string; children: string }) {
  return (
    <pre
      tabIndex={0}
      role="region"
      aria-label={label}
      className="max-h-80 overflow-auto rounded-lg border border-line bg-canvas p-3 font-mono text-xs leading-relaxed"
    >
      {children}
    </pre>
  );
}

function Opened({ letter, onDiscard, onClose }: { letter: Letter; onDiscard: () => void; onClose: () => void }) {
  const inside = useQuery(deadLetterQuery(letter));
  const retry = useRetryLetter();
  const now = inside.data?.letter ?? letter;
  return (
    <Sheet title="A dead letter" isOpen wide onClose={onClose}>
      <Loaded query={inside}>
        {(data) => (
          <div className="space-y-4">
            <p className="break-words">{data.letter.reason}</p>
            <Facts
              facts={[
                ["Event", data.event_type],
                ["Event id", data.event_id],
                ["Account", data.account_id],
                ["Happened", data.occurred_at ? time(data.occurred_at) : ""],
                ["Put aside", time(data.letter.put_at)],
                ["Read from", placeOf(data.letter)],
                ["Key", data.letter.key],
              ]}
            />
            <p className="flex flex-wrap items-center gap-2">
              <State letter={data.letter} />
              <Decision letter={data.letter} />
            </p>
            {data.undecodable && <p className="rounded-lg bg-warn-soft p-3 text-warn">It cannot be decoded: {data.undecodable}.</p>}
            {data.event_json && <Text label="The event">{data.event_json}</Text>}
            {data.preview && <Text label="The text in it">{data.preview}</Text>}
            <p className="text-xs text-muted">Secrets are masked. The message itself lies unchanged in the topic of dead letters.</p>
          </div>
        )}
      </Loaded>
      <ErrorNote error={retry.error} />
      <p role="status" className={retry.data ? "text-good" : "sr-only"}>
        {retry.data && `Sent to ${retry.data.topic} / ${retry.data.partition} at ${retry.data.offset}. A new letter says that it failed again.`}
      </p>
      <div className="flex flex-wrap justify-end gap-2">
        <Button onPress={onClose}>Close</Button>
        {now.status !== "discarded" && <Button look="danger" onPress={onDiscard}>Discard…</Button>}
        {letter.retryable && (
          <Button look="primary" isDisabled={retry.isPending} onPress={() => retry.mutate(letter)}>
            Send again
          </Button>
        )}
      </div>
      {!letter.retryable && (
        <p className="text-right text-xs text-muted">It cannot be sent again: its owner has a newer message for this key.</p>
      )}
    </Sheet>
  );
}

function Discard({ letter, onClose }: { letter: Letter; onClose: () => void }) {
  const discard = useDiscardLetter(letter);
  return (
    <Asking
      title="Discard a dead letter"
      about="Nothing will come of it. It stays listed as discarded, with your name and reason, and can still be sent again."
      action="Discard"
      danger
      error={discard.error}
      isPending={discard.isPending}
      onClose={onClose}
      onSubmit={(text) => discard.mutate(text("reason"), { onSuccess: onClose })}
    >
      <ReasonField hint="For whoever asks later; it is in the audit trail." />
    </Asking>
  );
}

export function DeadLetters() {
  const [status, setStatus] = useState<LetterStatus | null>("open");
  const letters = useQuery(deadLettersQuery(status));
  const [opened, setOpened] = useState<Letter | null>(null);
  const [discarding, setDiscarding] = useState<Letter | null>(null);
  const columns: Column<Letter>[] = [
    {
      title: "Put aside",
      wide: true,
      cell: (row) => (
        <span className="whitespace-nowrap" title={time(row.put_at)}>
          {ago(row.put_at)}
        </span>
      ),
    },
    {
      title: "Why",
      cell: (row) => (
        <div className="min-w-0">
          <p className="break-words">{row.reason}</p>
          <p className="break-all text-xs text-muted">{placeOf(row)}</p>
          <p className="text-xs text-muted md:hidden">{ago(row.put_at)}</p>
          <Decision letter={row} />
        </div>
      ),
    },
    { title: "Key", cell: (row) => <Id>{row.key || "–"}</Id>, wide: true },
    { title: "Bytes", cell: (row) => count(row.value_bytes), align: "right", wide: true },
    { title: "State", cell: (row) => <State letter={row} />, wide: true },
    {
      title: "Actions",
      align: "right",
      cell: (row) => (
        <Button aria-label={`Open letter ${row.position} of ${row.service}`} onPress={() => setOpened(row)}>
          Open
        </Button>
      ),
    },
  ];
  return (
    <Card title="Dead letters">
      <div className="flex flex-wrap items-end justify-between gap-3 border-b border-line p-4">
        <Choice
          label="Which letters"
          value={status ?? ""}
          options={SHOWN}
          onChange={(value) => setStatus(SHOWN.find(([name]) => name === value)?.[0] ?? null)}
        />
        <p role="status" className="text-muted">
          {letters.data && (letters.data.open ? `${count(letters.data.open)} open` : "None is open")}
        </p>
      </div>
      <Loaded query={letters}>
        {(data) => (
          <>
            <Away services={data.away} />
            {data.letters.length ? (
              <DataTable label="Dead letters" columns={columns} rows={data.letters} keyOf={(row) => `${row.service}/${row.position}`} />
            ) : (
              <Nothing title={NOTHING[status ?? "all"]}>
                A message that a consumer cannot take is listed here for a year, whatever becomes of it.
              </Nothing>
            )}
            {data.older && (
              <p className="border-t border-line p-3 text-center text-muted">
                The newest are shown. <code>mesh dlq show</code> opens any of them by its position.
              </p>
            )}
          </>
        )}
      </Loaded>
      {opened && !discarding && (
        <Opened letter={opened} onDiscard={() => setDiscarding(opened)} onClose={() => setOpened(null)} />
      )}
      {discarding && (
        <Discard
          letter={discarding}
          onClose={() => {
            setDiscarding(null);
            setOpened(null);
          }}
        />
      )}
    </Card>
  );
}
