/** For staff: how far the consumers of the event log are, and what they put aside. */
import { useQuery } from "@tanstack/react-query";

import type { Schemas } from "../api/client";
import { consumersQuery, deadLettersQuery, useRetryLetter } from "../api/operator";
import { Button } from "../components/controls";
import { ErrorNote, Nothing } from "../components/feedback";
import { Badge, Card, type Column, DataTable } from "../components/layout";
import { Id, Loaded, OperatorPage } from "../components/operator-frame";
import { ago, count, time } from "../format";

type Part = Schemas["ConsumerPart"];
type Letter = Schemas["DeadLetterOut"];

const PARTS: Column<Part>[] = [
  {
    title: "Consumer",
    cell: (row) => (
      <div>
        <p className="font-medium">{row.group}</p>
        <p className="break-all text-xs text-muted">{row.topic}</p>
      </div>
    ),
  },
  { title: "Partition", cell: (row) => count(row.partition), align: "right" },
  { title: "Applied up to", cell: (row) => count(row.next_offset), align: "right", wide: true },
  { title: "End", cell: (row) => count(row.end_offset), align: "right", wide: true },
  {
    title: "Behind",
    align: "right",
    cell: (row) => (row.lag_messages ? <Badge tone="warn">{count(row.lag_messages)}</Badge> : <Badge tone="good">0</Badge>),
  },
];

/** The services that did not answer: what is shown is without them. */
function Away({ services }: { services: Schemas["ServiceAway"][] }) {
  if (!services.length) return null;
  return (
    <p role="alert" className="m-4 rounded-lg bg-warn-soft p-3 text-warn">
      {services.map((one) => `The service ${one.service} does not answer: ${one.message}`).join(" ")}
    </p>
  );
}

export function OperatorLogPage() {
  const consumers = useQuery(consumersQuery);
  const letters = useQuery(deadLettersQuery);
  const retry = useRetryLetter();
  const columns: Column<Letter>[] = [
    {
      title: "Put aside",
      cell: (row) => <span className="whitespace-nowrap" title={time(row.put_at)}>{ago(row.put_at)}</span>,
    },
    {
      title: "Why",
      cell: (row) => (
        <div className="min-w-48">
          <p className="break-words">{row.reason}</p>
          <p className="break-all text-xs text-muted">
            {row.service} · {row.topic} / {row.partition} at {row.offset}
          </p>
        </div>
      ),
    },
    { title: "Key", cell: (row) => <Id>{row.key || "–"}</Id>, wide: true },
    { title: "Bytes", cell: (row) => count(row.value_bytes), align: "right", wide: true },
    {
      title: "Actions",
      align: "right",
      cell: (row) =>
        row.retryable ? (
          <Button aria-label={`Send message ${row.position} again`} isDisabled={retry.isPending} onPress={() => retry.mutate(row)}>
            Send again
          </Button>
        ) : (
          <span className="text-xs text-muted">its owner has a newer one</span>
        ),
    },
  ];
  return (
    <OperatorPage title="Event log" about="How far each consumer is, and the messages that it could not take.">
      <Card title="Dead letters">
        {retry.error && <div className="p-4"><ErrorNote error={retry.error} /></div>}
        <p role="status" className={retry.data ? "p-4 text-good" : "sr-only"}>
          {retry.data && `Sent to ${retry.data.topic} / ${retry.data.partition} at ${retry.data.offset}. The letter stays listed; a new one says that it failed again.`}
        </p>
        <Loaded query={letters}>
          {(data) => (
            <>
              <Away services={data.away} />
              {data.letters.length ? (
                <DataTable label="Dead letters" columns={columns} rows={data.letters} keyOf={(row) => `${row.service}/${row.position}`} />
              ) : (
                <Nothing title="Nothing was put aside">A message that a consumer cannot take is listed here for a year.</Nothing>
              )}
            </>
          )}
        </Loaded>
      </Card>
      <Card title="Lag of the consumers">
        <Loaded query={consumers}>
          {(data) => (
            <>
              <Away services={data.away} />
              {data.parts.length ? (
                <DataTable label="Lag of the consumers" columns={PARTS} rows={data.parts} keyOf={(row) => `${row.group}/${row.topic}/${row.partition}`} />
              ) : (
                <Nothing title="No consumer has partitions">Each takes some over a moment after it starts.</Nothing>
              )}
            </>
          )}
        </Loaded>
      </Card>
    </OperatorPage>
  );
}
