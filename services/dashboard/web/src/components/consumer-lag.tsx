/** For staff: how far every consumer group of the event log is, and each of its partitions on demand. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { consumersQuery } from "../api/operator";
import { count } from "../format";
import { Button, Sheet } from "./controls";
import { Nothing } from "./feedback";
import { Badge, Card, type Column, DataTable } from "./layout";
import { Loaded } from "./operator-frame";
import { Away } from "./services-away";

type Group = Schemas["ConsumerGroup"];

const keyOf = (row: Group) => `${row.group}/${row.topic}`;

function Behind({ messages }: { messages: number }) {
  return messages ? <Badge tone="warn">{count(messages)}</Badge> : <Badge tone="good">0</Badge>;
}

const PARTS: Column<Schemas["ConsumerPart"]>[] = [
  { title: "Partition", cell: (row) => count(row.partition) },
  { title: "Applied up to", cell: (row) => count(row.next_offset), align: "right" },
  { title: "End", cell: (row) => count(row.end_offset), align: "right" },
  { title: "Behind", cell: (row) => <Behind messages={row.lag_messages} />, align: "right" },
];

function Partitions({ group, onClose }: { group: Group; onClose: () => void }) {
  return (
    <Sheet title={group.group} isOpen wide onClose={onClose}>
      <p className="text-muted">
        Reads {group.topic}.{" "}
        {group.service
          ? `Positions are those that ${group.service} keeps with its data.`
          : "Positions are those that it committed to the broker."}
      </p>
      <DataTable label="Partitions" columns={PARTS} rows={group.parts} keyOf={(row) => String(row.partition)} />
      <div className="text-right">
        <Button onPress={onClose}>Close</Button>
      </div>
    </Sheet>
  );
}

function columnsOf(open: (group: Group) => void): Column<Group>[] {
  return [
    {
      title: "Group",
      cell: (row) => (
        <div className="min-w-0">
          <button type="button" onClick={() => open(row)} className="break-all text-left font-medium text-accent hover:underline">
            {row.group}
          </button>
          <p className="break-all text-xs text-muted">{row.topic}</p>
        </div>
      ),
      sort: (row) => row.group,
    },
    { title: "Service", cell: (row) => row.service ?? "–", wide: true, sort: (row) => row.service ?? "" },
    {
      title: "Processes",
      cell: (row) => (row.members === null ? "–" : row.members ? count(row.members) : <Badge tone="bad">None</Badge>),
      align: "right",
      wide: true,
    },
    { title: "Partitions", cell: (row) => count(row.parts.length), align: "right", wide: true },
    { title: "Behind", cell: (row) => <Behind messages={row.lag_messages} />, align: "right", sort: (row) => row.lag_messages },
  ];
}

export function ConsumerLag() {
  const consumers = useQuery(consumersQuery);
  const [opened, setOpened] = useState<string | null>(null);
  const columns = columnsOf((group) => setOpened(keyOf(group)));
  const all = consumers.data ? [...consumers.data.groups, ...consumers.data.leftover] : [];
  const group = all.find((one) => keyOf(one) === opened);
  return (
    <Card title="Lag of the consumers">
      <Loaded query={consumers}>
        {(data) => (
          <>
            <Away services={data.away} />
            {data.log_away && (
              <p role="alert" className="m-4 rounded-lg bg-warn-soft p-3 text-warn">
                The event log does not answer: {data.log_away}. Positions are current; ends are as they were last seen.
              </p>
            )}
            {data.groups.length ? (
              <DataTable label="Lag of the consumers" columns={columns} rows={data.groups} keyOf={keyOf} />
            ) : (
              <Nothing title="No consumer is known">Each group appears a moment after its service starts.</Nothing>
            )}
            {data.leftover.length > 0 && (
              <details className="border-t border-line">
                <summary className="cursor-pointer px-4 py-3 text-muted hover:text-ink">
                  {count(data.leftover.length)} that no process is in, of processes that are gone. The broker forgets them within a week.
                </summary>
                <DataTable label="Groups that no process is in" columns={columns} rows={data.leftover} keyOf={keyOf} />
              </details>
            )}
          </>
        )}
      </Loaded>
      {group && <Partitions group={group} onClose={() => setOpened(null)} />}
    </Card>
  );
}
