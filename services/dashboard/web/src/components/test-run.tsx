/** Runs a saved template with variables; two versions or models side by side. */
import { useQuery } from "@tanstack/react-query";
import { Play } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import type { Schemas } from "../api/client";
import { modelsQuery, requestQuery } from "../api/queries";
import { versionsQuery } from "../api/templates";
import { type Answer, streamChat } from "../chat";
import { count, dollarsExact, milliseconds } from "../format";
import { type Content, filledMessages, slotsOf } from "../template-text";
import { Button, Choice, Field } from "./controls";
import { ErrorNote } from "./feedback";

function Outcome({ title, answer, error }: { title: string; answer: Answer | null; error: unknown }) {
  const logged = useQuery({
    ...requestQuery(answer?.requestId ?? ""),
    enabled: !!answer?.done && answer.requestId !== "",
    retry: 10,
    retryDelay: 400,
  });
  return (
    <div className="min-w-0 space-y-2 rounded-xl border border-line p-3" role="status">
      <p className="font-mono text-xs text-muted">{title}</p>
      <ErrorNote error={error} />
      {answer && <p className="whitespace-pre-wrap break-words">{answer.text || (answer.done ? "(nothing)" : "…")}</p>}
      {answer?.done && (
        <p className="flex flex-wrap gap-3 text-xs text-muted">
          <span>{milliseconds(answer.totalMs)}</span>
          {answer.usage && (
            <span>
              {count(answer.usage.prompt_tokens)} + {count(answer.usage.completion_tokens)} tokens
            </span>
          )}
          {logged.data && <span>{dollarsExact(logged.data.cost_usd)}</span>}
        </p>
      )}
    </div>
  );
}

/** What is run: a version of the template on a model; 0 is the version in force, "" the model that it names. */
type Side = { version: number; model: string };
type Run = Side & { answer: Answer | null; error: unknown };

/** The request. The version in force is called as callers do; of an earlier one the text is filled in here. */
function bodyOf(
  side: Side,
  { templateId, content, values, message }: { templateId: string; content: Content | undefined; values: Record<string, string>; message: string },
) {
  const own = message.trim() ? [{ role: "user" as const, content: message }] : [];
  if (!content) return { ...(side.model ? { model: side.model } : {}), template: templateId, variables: values, messages: own };
  const model = side.model || content.model;
  return { ...content.params, ...(model ? { model } : {}), messages: [...filledMessages(content, values), ...own] };
}

export function TestRun({ stored }: { stored: Schemas["TemplateOut"] }) {
  const models = useQuery(modelsQuery);
  const versions = useQuery(versionsQuery(stored.template_id));
  const [values, setValues] = useState<Record<string, string>>({});
  const [message, setMessage] = useState("");
  const [first, setFirst] = useState<Side>({ version: 0, model: "" });
  const [second, setSecond] = useState<Side>({ version: 0, model: "" });
  const [runs, setRuns] = useState<Run[]>([]);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const options = (models.data ?? []).map((one) => [one.model_id, one.model_id] as const);
  const earlier = (versions.data ?? []).filter((one) => one.version !== stored.version);
  const contentOf = (version: number) => earlier.find((one) => one.version === version)?.content;
  const sides = second.model || second.version ? [first, second] : [first];
  // Of every version that is run, each slot once.
  const slots = [...new Set(sides.flatMap((side) => slotsOf(contentOf(side.version) ?? stored.content)))];

  const run = async () => {
    stop.current?.abort();
    const control = new AbortController();
    stop.current = control;
    setRuns(sides.map((side) => ({ ...side, answer: null, error: null })));
    const show = (place: number, part: Partial<Run>) =>
      setRuns((before) => before.map((one, at) => (at === place ? { ...one, ...part } : one)));
    await Promise.all(
      sides.map(async (side, place) => {
        const content = contentOf(side.version);
        const given = Object.fromEntries(slotsOf(content ?? stored.content).map((name) => [name, values[name] ?? ""]));
        const body = bodyOf(side, { templateId: stored.template_id, content, values: given, message });
        try {
          await streamChat(body, { signal: control.signal, onChange: (answer) => show(place, { answer }) });
        } catch (error) {
          if (!control.signal.aborted) show(place, { error });
        }
      }),
    );
  };

  const versionChoice = (label: string, side: Side, set: (side: Side) => void) =>
    earlier.length > 0 && (
      <Choice
        label={label}
        value={side.version ? String(side.version) : ""}
        options={earlier.map((one) => [String(one.version), `Version ${one.version}`])}
        onChange={(version) => set({ ...side, version: Number(version) })}
        all={`The newest, ${stored.version}`}
      />
    );
  return (
    <div className="space-y-4 p-4">
      {slots.length > 0 && (
        <div className="grid gap-3 sm:grid-cols-2">
          {slots.map((name) => (
            <Field key={name} label={name} value={values[name] ?? ""} onChange={(text) => setValues({ ...values, [name]: text })} />
          ))}
        </div>
      )}
      <Field
        label="A message of the caller"
        value={message}
        onChange={setMessage}
        hint={stored.content.messages.length ? "Comes after the template's messages; may be empty." : "The template has no messages of its own, so write one."}
      />
      <div className="flex flex-wrap items-end gap-3">
        <Choice label="Model" value={first.model} options={options} onChange={(model) => setFirst({ ...first, model })} all="As the template says" />
        {versionChoice("Version", first, setFirst)}
        <Choice
          label="Beside it"
          value={second.model}
          options={options}
          onChange={(model) => setSecond({ ...second, model })}
          all={second.version ? "As the template says" : "Nothing"}
        />
        {versionChoice("Its version", second, setSecond)}
        <Button look="primary" onPress={() => void run()}>
          <Play aria-hidden className="size-4" /> Run
        </Button>
      </div>
      {runs.length > 0 && (
        <div className={`grid gap-3 ${runs.length > 1 ? "sm:grid-cols-2" : ""}`}>
          {runs.map(({ model, version, answer, error }, place) => (
            <Outcome
              key={place}
              title={`${model || "the template's or the key's model"}, version ${version || stored.version}`}
              answer={answer}
              error={error}
            />
          ))}
        </div>
      )}
    </div>
  );
}
