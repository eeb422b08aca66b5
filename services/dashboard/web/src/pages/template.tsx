/** One template: its text with slots, its parameters, a test run, its versions, how to call it. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { Plus, Trash2 } from "lucide-react";
import { lazy, Suspense, useState } from "react";

import type { Schemas } from "../api/client";
import { modelsQuery, sessionQuery, useFirstModel } from "../api/queries";
import { templateQuery, useDeleteTemplate, useSaveTemplate } from "../api/templates";
import { Button, Choice, Field } from "../components/controls";
import { ErrorNote, Waiting } from "../components/feedback";
import { Card, Page } from "../components/layout";
import { Snippets } from "../components/snippets";
import { TestRun } from "../components/test-run";
import { Versions } from "../components/versions";
import { type Content, slotsOf } from "../template-text";

const SlotEditor = lazy(() => import("../components/slot-editor"));

const NEW: Content = { name: "", description: "", system: "", messages: [], model: "", params: {}, variables: [] };
const NUMBERS = [
  { name: "temperature", label: "Temperature", hint: "0 to 2" },
  { name: "max_tokens", label: "Longest answer, tokens", hint: "" },
  { name: "top_p", label: "Top p", hint: "0 to 1" },
  { name: "frequency_penalty", label: "Frequency penalty", hint: "−2 to 2" },
  { name: "presence_penalty", label: "Presence penalty", hint: "−2 to 2" },
  { name: "seed", label: "Seed", hint: "" },
] as const;

function Parameters({ content, change }: { content: Content; change: (part: Partial<Content>) => void }) {
  const set = (name: string, value: unknown) => {
    const { [name]: _, ...rest } = content.params;
    change({ params: (value === undefined ? rest : { ...rest, [name]: value }) as Content["params"] });
  };
  const stop = content.params.stop;
  return (
    <div className="grid gap-3 sm:grid-cols-2 lg:grid-cols-3">
      {NUMBERS.map(({ name, label, hint }) => (
        <Field
          key={name}
          label={label}
          placeholder={hint}
          inputMode="decimal"
          value={content.params[name] === undefined ? "" : String(content.params[name])}
          onChange={(text) => set(name, text.trim() === "" ? undefined : Number.isFinite(Number(text)) ? Number(text) : text)}
        />
      ))}
      <Field
        label="Stop"
        placeholder="one or more, with commas between"
        value={Array.isArray(stop) ? stop.join(",") : typeof stop === "string" ? stop : ""}
        onChange={(text) => set("stop", text === "" ? undefined : text.split(","))}
      />
    </div>
  );
}

function Messages({ content, change, readOnly }: { content: Content; change: (part: Partial<Content>) => void; readOnly: boolean }) {
  const put = (place: number, part: Partial<Schemas["TemplateMessage"]>) =>
    change({ messages: content.messages.map((one, at) => (at === place ? { ...one, ...part } : one)) });
  return (
    <>
      {content.messages.map((message, place) => (
        <div key={place} className="space-y-1">
          <div className="flex items-end justify-between gap-2">
            <Choice
              label={`Role of message ${place + 1}`}
              value={message.role}
              options={[["user", "User"], ["assistant", "Assistant"], ["system", "System"]]}
              all={null}
              onChange={(role) => put(place, { role })}
            />
            {!readOnly && (
              <Button onPress={() => change({ messages: content.messages.filter((_, at) => at !== place) })} aria-label={`Remove message ${place + 1}`}>
                <Trash2 aria-hidden className="size-4" />
              </Button>
            )}
          </div>
          <SlotEditor
            label={`Message ${place + 1}`}
            value={message.content}
            hint="What is said"
            readOnly={readOnly}
            onChange={(text) => put(place, { content: text })}
          />
        </div>
      ))}
      {!readOnly && (
        <Button onPress={() => change({ messages: [...content.messages, { role: "user", content: "" }] })}>
          <Plus aria-hidden className="size-4" /> Message
        </Button>
      )}
    </>
  );
}

function Editor({ stored }: { stored: Schemas["TemplateOut"] | null }) {
  const session = useQuery(sessionQuery);
  const models = useQuery(modelsQuery);
  const firstModel = useFirstModel();
  const save = useSaveTemplate();
  const remove = useDeleteTemplate();
  const navigate = useNavigate();
  const [content, setContent] = useState<Content>(stored?.content ?? NEW);
  const [basis, setBasis] = useState(stored?.version ?? 0);
  if (stored && stored.version !== basis) {
    // Another version is in force, by a restoration or in another tab: what stands here is old.
    setBasis(stored.version);
    setContent(stored.content);
  }
  const change = (part: Partial<Content>) => setContent({ ...content, ...part });
  const readOnly = session.data?.role === "viewer" || !!stored?.is_global;
  const dirty = JSON.stringify(content) !== JSON.stringify(stored?.content ?? NEW);
  const slots = slotsOf(content);
  const keep = () =>
    save.mutate(
      { id: stored?.template_id ?? null, body: { ...content, variables: slots } },
      {
        onSuccess: (made) =>
          stored ? setContent(made.content) : void navigate({ to: "/templates/$templateId", params: { templateId: made.template_id } }),
      },
    );
  return (
    <Page
      title={stored?.content.name ?? "New template"}
      about={stored ? `Version ${stored.version}` : "Give it a name by which requests call it."}
      actions={
        <span className="flex gap-2">
          <Link to="/templates" className="px-2 py-1.5 text-accent underline">All templates</Link>
          {stored && !readOnly && (
            <Button look="danger" isDisabled={remove.isPending} onPress={() => remove.mutate(stored.template_id, { onSuccess: () => void navigate({ to: "/templates" }) })}>
              Delete
            </Button>
          )}
          {!readOnly && (
            <Button look="primary" isDisabled={!dirty || !content.name.trim() || save.isPending} onPress={keep}>
              {stored ? "Save as a new version" : "Create"}
            </Button>
          )}
        </span>
      }
    >
      <ErrorNote error={save.error ?? remove.error} />
      <Card title="Prompt">
        <div className="space-y-4 p-4">
          <div className="grid gap-3 sm:grid-cols-2">
            <Field label="Name" value={content.name} onChange={(name) => change({ name })} isReadOnly={readOnly} />
            <Field label="Description" value={content.description} onChange={(description) => change({ description })} isReadOnly={readOnly} />
          </div>
          <Suspense fallback={<Waiting rows={3} />}>
            <div className="space-y-1">
              <p className="font-medium">System</p>
              <SlotEditor label="System" value={content.system} hint="You speak {{ language }}." readOnly={readOnly} onChange={(system) => change({ system })} />
            </div>
            <Messages content={content} change={change} readOnly={readOnly} />
          </Suspense>
          {slots.length > 0 && <p className="text-muted">Slots that a request must fill: {slots.join(", ")}</p>}
        </div>
      </Card>
      <Card title="Defaults beneath the request's and its key's">
        <div className="space-y-4 p-4">
          <Choice label="Model" value={content.model} options={(models.data ?? []).map((one) => [one.model_id, one.model_id])} onChange={(model) => change({ model })} all="None" />
          <Parameters content={content} change={change} />
        </div>
      </Card>
      {stored && (
        <>
          <Card title={dirty ? "Test run (of the saved version)" : "Test run"}>
            <TestRun stored={stored} />
          </Card>
          <Card title="Call it">
            <div className="p-4">
              <Snippets
                apiUrl={session.data?.public_api_url ?? ""}
                model={stored.content.model}
                body={{
                  model: stored.content.model || firstModel,
                  template: stored.content.name,
                  variables: Object.fromEntries(slotsOf(stored.content).map((name) => [name, "…"])),
                  messages: stored.content.messages.length ? [] : [{ role: "user", content: "…" }],
                }}
                extra={["template", "variables"]}
              />
            </div>
          </Card>
          <Card title="Versions">
            <Versions templateId={stored.template_id} mayChange={!readOnly} />
          </Card>
        </>
      )}
    </Page>
  );
}

export function TemplatePage() {
  const { templateId } = useParams({ from: "/inside/templates/$templateId" });
  const isNew = templateId === "new";
  const template = useQuery({ ...templateQuery(templateId), enabled: !isNew });
  if (isNew) return <Editor key="new" stored={null} />;
  if (template.data) return <Editor key={templateId} stored={template.data} />;
  return (
    <Page title="Template">
      <ErrorNote error={template.error} />
      {template.isPending && <Waiting rows={6} />}
    </Page>
  );
}
