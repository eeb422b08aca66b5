/** A chat with any model: parameters, the answer as it streams, tokens, time and cost. */
import { useQuery } from "@tanstack/react-query";
import { Link, useSearch } from "@tanstack/react-router";
import { Send, Square, Trash2 } from "lucide-react";
import { type FormEvent, useEffect, useRef, useState } from "react";

import { modelsQuery, requestQuery, sessionQuery, useFirstModel } from "../api/queries";
import { type Answer, type ChatMessage, type Parameters, streamChat } from "../chat";
import { Button, Choice, Field } from "../components/controls";
import { ErrorNote } from "../components/feedback";
import { Card, Page } from "../components/layout";
import { Snippets } from "../components/snippets";
import { count, dollarsExact, milliseconds } from "../format";

type Turn = { message: ChatMessage; answer?: Answer };

/** What the log says of an answer; it is there within a second of the end. */
function Figures({ answer }: { answer: Answer }) {
  const logged = useQuery({
    ...requestQuery(answer.requestId),
    enabled: answer.done && answer.requestId !== "",
    retry: 10,
    retryDelay: 400,
  });
  return (
    <p className="flex flex-wrap gap-x-4 gap-y-1 text-xs text-muted">
      {answer.firstTokenMs > 0 && <span>first token {milliseconds(answer.firstTokenMs)}</span>}
      {answer.done && <span>total {milliseconds(answer.totalMs)}</span>}
      {answer.usage && (
        <span>
          {count(answer.usage.prompt_tokens)} + {count(answer.usage.completion_tokens)} tokens
        </span>
      )}
      {logged.data && (
        <Link to="/logs/$requestId" params={{ requestId: logged.data.usage_id }} className="text-accent underline">
          {dollarsExact(logged.data.cost_usd)}
        </Link>
      )}
      {answer.finishReason === "length" && <span className="text-warn">ended at the token limit</span>}
    </p>
  );
}

function Bubble({ turn }: { turn: Turn }) {
  const mine = turn.message.role === "user";
  return (
    <div className={`flex ${mine ? "justify-end" : ""}`}>
      <div className={`max-w-[48rem] space-y-1 rounded-2xl px-4 py-2.5 ${mine ? "bg-accent-soft" : "border border-line bg-surface"}`}>
        <p className="whitespace-pre-wrap break-words">
          {turn.message.content || (turn.answer && !turn.answer.done ? "…" : "")}
        </p>
        {turn.answer && <Figures answer={turn.answer} />}
      </div>
    </div>
  );
}

const NUMBERS: { name: keyof Parameters; label: string; step: string; min: number; max?: number }[] = [
  { name: "temperature", label: "Temperature", step: "0.1", min: 0, max: 2 },
  { name: "max_tokens", label: "Longest answer, tokens", step: "1", min: 1 },
  { name: "top_p", label: "Top p", step: "0.05", min: 0, max: 1 },
];

export function PlaygroundPage() {
  const { model: linked } = useSearch({ from: "/inside/playground" });
  const models = useQuery(modelsQuery);
  const session = useQuery(sessionQuery);
  const [model, setModel] = useState(linked ?? "");
  const [system, setSystem] = useState("");
  const [parameters, setParameters] = useState<Parameters>({ max_tokens: 256 });
  const [turns, setTurns] = useState<Turn[]>([]);
  const [error, setError] = useState<unknown>(null);
  const stop = useRef<AbortController | null>(null);
  const end = useRef<HTMLDivElement>(null);
  const [busy, setBusy] = useState(false);
  const firstModel = useFirstModel();
  const chosen = model || firstModel;
  useEffect(() => {
    end.current?.scrollIntoView({ block: "nearest" });
  }, [turns]);
  useEffect(() => () => stop.current?.abort(), []);

  const messagesWith = (content: string): ChatMessage[] => [
    ...(system.trim() ? [{ role: "system" as const, content: system }] : []),
    ...turns.map((turn) => turn.message),
    { role: "user", content },
  ];

  const ask = async (content: string) => {
    const messages = messagesWith(content);
    setError(null);
    setBusy(true);
    stop.current = new AbortController();
    const show = (answer: Answer) =>
      setTurns([
        ...turns,
        { message: { role: "user", content } },
        { message: { role: "assistant", content: answer.text }, answer },
      ]);
    try {
      await streamChat({ model: chosen, messages, ...parameters }, { signal: stop.current.signal, onChange: show });
    } catch (problem) {
      if (!stop.current.signal.aborted) setError(problem);
    } finally {
      setBusy(false);
    }
  };

  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const field = event.currentTarget.elements.namedItem("prompt") as HTMLTextAreaElement;
    const content = field.value.trim();
    if (!content || busy || !chosen) return;
    field.value = "";
    void ask(content);
  };

  return (
    <Page
      wide
      title="Playground"
      about="Requests cost and are logged like any other, with a key of your own."
      actions={
        turns.length > 0 && (
          <Button onPress={() => { stop.current?.abort(); setTurns([]); }}>
            <Trash2 aria-hidden className="size-4" /> Start over
          </Button>
        )
      }
    >
      <div className="grid items-start gap-6 lg:grid-cols-[minmax(0,1fr)_19rem]">
        <Card>
          <div className="h-[52dvh] space-y-4 overflow-auto p-4" aria-live="polite" role="log" aria-label="Conversation" tabIndex={0}>
            {turns.length === 0 && <p className="py-16 text-center text-muted">Ask something.</p>}
            {turns.map((turn, place) => (
              <Bubble key={place} turn={turn} />
            ))}
            <ErrorNote error={error} />
            <div ref={end} />
          </div>
          <form onSubmit={submit} className="flex items-end gap-2 border-t border-line p-3">
            <textarea
              name="prompt"
              aria-label="Your message"
              rows={2}
              placeholder="Your message; Enter sends, Shift+Enter is a new line"
              onKeyDown={(event) => {
                if (event.key !== "Enter" || event.shiftKey) return;
                event.preventDefault();
                event.currentTarget.form?.requestSubmit();
              }}
              className="min-w-0 flex-1 resize-y rounded-lg border border-line bg-surface px-3 py-2 placeholder:text-muted"
            />
            {busy ? (
              <Button onPress={() => stop.current?.abort()}>
                <Square aria-hidden className="size-4" /> Stop
              </Button>
            ) : (
              <Button look="primary" type="submit">
                <Send aria-hidden className="size-4" /> Send
              </Button>
            )}
          </form>
        </Card>
        <div className="space-y-4">
          <Choice label="Model" value={chosen} options={(models.data ?? []).map((one) => [one.model_id, one.model_id])} onChange={setModel} all={null} />
          <label className="flex flex-col gap-1 text-xs text-muted">
            System message
            <textarea
              value={system}
              onChange={(event) => setSystem(event.target.value)}
              rows={3}
              className="rounded-lg border border-line bg-surface px-3 py-2 text-sm text-ink"
            />
          </label>
          {NUMBERS.map(({ name, label, step, min, max }) => (
            <Field
              key={name}
              label={label}
              type="number"
              value={parameters[name] === undefined ? "" : String(parameters[name])}
              placeholder="as the model has it"
              onChange={(text) => {
                const { [name]: _, ...rest } = parameters;
                const value = Math.min(Math.max(Number(text), min), max ?? Number.MAX_SAFE_INTEGER);
                setParameters(text === "" ? rest : { ...rest, [name]: step === "1" ? Math.round(value) : value });
              }}
            />
          ))}
          <details className="rounded-xl border border-line bg-surface p-3">
            <summary className="cursor-pointer font-medium">As code</summary>
            <div className="mt-3">
              <Snippets
                apiUrl={session.data?.public_api_url ?? ""}
                model={chosen}
                body={{ model: chosen, ...parameters, messages: messagesWith("…") }}
              />
            </div>
          </details>
        </div>
      </div>
    </Page>
  );
}
