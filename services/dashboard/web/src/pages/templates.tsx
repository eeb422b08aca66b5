/** Prompt templates that live on the server: the list. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Plus } from "lucide-react";

import type { Schemas } from "../api/client";
import { sessionQuery } from "../api/queries";
import { templatesQuery } from "../api/templates";
import { ErrorNote, Nothing, Waiting } from "../components/feedback";
import { Card, type Column, DataTable, Page } from "../components/layout";
import { ago } from "../format";
import { slotsOf } from "../template-text";

type Row = Schemas["TemplateOut"];

const COLUMNS: Column<Row>[] = [
  {
    title: "Template",
    sort: (row) => row.content.name,
    cell: (row) => (
      <Link to="/templates/$templateId" params={{ templateId: row.template_id }} className="block hover:underline">
        <span className="block font-medium">{row.content.name}</span>
        <span className="block text-xs text-muted">{row.content.description}</span>
      </Link>
    ),
  },
  {
    title: "Slots",
    wide: true,
    cell: (row) => (
      <span className="flex flex-wrap gap-1">
        {slotsOf(row.content).map((name) => (
          <code key={name} className="rounded bg-accent-soft px-1 font-mono text-xs text-accent">
            {name}
          </code>
        ))}
      </span>
    ),
  },
  { title: "Model", cell: (row) => <span className="font-mono text-xs">{row.content.model || "–"}</span>, wide: true },
  { title: "Version", sort: (row) => row.version, cell: (row) => row.version, align: "right" },
  { title: "Changed", sort: (row) => row.updated_at, cell: (row) => ago(row.updated_at), align: "right", wide: true },
  { title: "Owner", cell: (row) => (row.is_global ? "Mesh" : "this account"), wide: true },
];

export function TemplatesPage() {
  const templates = useQuery(templatesQuery);
  const session = useQuery(sessionQuery);
  return (
    <Page
      title="Templates"
      about="Prompts that live on the server: changed without a new release of the program that uses them."
      actions={
        session.data?.role !== "viewer" && (
          <Link
            to="/templates/$templateId"
            params={{ templateId: "new" }}
            className="inline-flex items-center gap-2 rounded-lg bg-accent px-3 py-1.5 font-medium text-accent-ink hover:brightness-90"
          >
            <Plus aria-hidden className="size-4" /> New template
          </Link>
        )
      }
    >
      <ErrorNote error={templates.error} />
      <Card>
        {templates.isPending ? (
          <Waiting />
        ) : templates.data?.length ? (
          <DataTable label="Templates" columns={COLUMNS} rows={templates.data} keyOf={(row) => row.template_id} />
        ) : (
          <Nothing unless={templates.error} title="No templates yet">Write one, with {"{{ slots }}"} for what changes from request to request.</Nothing>
        )}
      </Card>
    </Page>
  );
}
