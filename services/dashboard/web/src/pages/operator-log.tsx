/** For staff: how far the consumers of the event log are, and what they put aside. */
import { useQuery } from "@tanstack/react-query";

import type { Schemas } from "../api/client";
import { consumersQuery } from "../api/operator";
import { DeadLetters } from "../components/dead-letters";
import { Nothing } from "../components/feedback";
import { Badge, Card, type Column, DataTable } from "../components/layout";
import { Loaded, OperatorPage } from "../components/operator-frame";
import { Away } from "../components/services-away";
import { count } from "../format";

type Part = Schemas["ConsumerPart"];

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

export function OperatorLogPage() {
  const consumers = useQuery(consumersQuery);
  return (
    <OperatorPage title="Event log" about="How far each consumer is, and the messages that it could not take.">
      <DeadLetters />
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
