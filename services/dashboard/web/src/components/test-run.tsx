/** Runs a saved template with variables, on one model or two side by side. */
import { useQuery } from "@tanstack/react-query";
import { Play } from "lucide-react";
import { useEffect, useRef, useState } from "react";

import { modelsQuery, requestQuery } from "../api/queries";
import { type Answer, streamChat } from "../chat";
import { count, dollarsExact, milliseconds } from "../format";
import { Button, Choice, Field } from "./controls";
import { ErrorNote } from "./feedback";

function Outcome({ model, answer, error }: { model: string; answer: Answer | null; error: unknown }) {
  const logged = useQuery({
    ...requestQuery(answer?.requestId ?? ""),
    enabled: !!answer?.done && answer.requestId !== "",
    retry: 10,
    retryDelay: 400,
  });
  return (
    <div className="min-w-0 space-y-2 rounded-xl border border-line p-3" role="status">
      <p className="font-mono text-xs text-muted">{model || "the template's or the key's model"}</p>
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

type Run = { model: string; answer: Answer | null; error: unknown };

export function TestRun({ templateId, slots, hasMessages }: { templateId: string; slots: string[]; hasMessages: boolean }) {
  const models = useQuery(modelsQuery);
  const [values, setValues] = useState<Record<string, string>>({});
  const [message, setMessage] = useState("");
  const [first, setFirst] = useState("");
  const [second, setSecond] = useState("");
  const [runs, setRuns] = useState<Run[]>([]);
  const stop = useRef<AbortController | null>(null);
  useEffect(() => () => stop.current?.abort(), []);
  const options = (models.data ?? []).map((one) => [one.model_id, one.model_id] as const);

  const run = async () => {
    stop.current?.abort();
    const control = new AbortController();
    stop.current = control;
    const chosen = second ? [first, second] : [first];
    setRuns(chosen.map((model) => ({ model, answer: null, error: null })));
    const show = (place: number, part: Partial<Run>) =>
      setRuns((before) => before.map((one, at) => (at === place ? { ...one, ...part } : one)));
    await Promise.all(
      chosen.map(async (model, place) => {
        const body = {
          ...(model ? { model } : {}),
          template: templateId,
          variables: Object.fromEntries(slots.map((name) => [name, values[name] ?? ""])),
          messages: message.trim() ? [{ role: "user" as const, content: message }] : [],
        };
        try {
          await streamChat(body, { signal: control.signal, onChange: (answer) => show(place, { answer }) });
        } catch (error) {
          if (!control.signal.aborted) show(place, { error });
        }
      }),
    );
  };

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
        hint={hasMessages ? "Comes after the template's messages; may be empty." : "The template has no messages of its own, so write one."}
      />
      <div className="flex flex-wrap items-end gap-3">
        <Choice label="Model" value={first} options={options} onChange={setFirst} all="As the template says" />
        <Choice label="Beside it" value={second} options={options} onChange={setSecond} all="Nothing" />
        <Button look="primary" onPress={() => void run()}>
          <Play aria-hidden className="size-4" /> Run
        </Button>
      </div>
      {runs.length > 0 && (
        <div className={`grid gap-3 ${runs.length > 1 ? "sm:grid-cols-2" : ""}`}>
          {runs.map((one, place) => (
            <Outcome key={place} {...one} />
          ))}
        </div>
      )}
    </div>
  );
}
