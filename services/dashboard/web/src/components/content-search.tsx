/** A search in stored prompts and answers; each hit leads to its request. */
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { Search } from "lucide-react";
import { type FormEvent, useEffect, useState } from "react";

import type { Schemas } from "../api/client";
import { contentHitsQuery, keysQuery, type LogFilter, sessionQuery } from "../api/queries";
import { plural, time } from "../format";
import { Button } from "./controls";
import { ErrorNote, Nothing, Waiting } from "./feedback";
import { Card } from "./layout";

/** Whether there can be something to find: the operator stores it, a key wants it, and the person may read it. */
export function useMaySearchContents(): boolean {
  const session = useQuery(sessionQuery).data;
  const keys = useQuery(keysQuery).data;
  return (
    !!session?.content_stored &&
    (session.role === "owner" || session.role === "admin") &&
    !!keys?.some((key) => key.content_stored)
  );
}

/** What to look for; it takes effect with Enter, or when the field is emptied. */
export function WordsField({ words, onChange }: { words: string; onChange: (words: string) => void }) {
  const [text, setText] = useState(words);
  useEffect(() => setText(words), [words]);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onChange(text.trim());
  };
  return (
    <form role="search" aria-label="Prompts and answers" onSubmit={submit} className="flex items-end gap-2">
      <label className="flex w-full max-w-md flex-col gap-1 text-xs text-muted">
        Search in stored prompts and answers
        <input
          type="search"
          value={text}
          maxLength={200}
          placeholder="Whole words; all of them have to occur"
          onChange={(event) => {
            setText(event.target.value);
            if (!event.target.value) onChange("");
          }}
          className="rounded-lg border border-line bg-surface px-3 py-2 text-sm text-ink placeholder:text-muted"
        />
      </label>
      <Button type="submit">
        <Search aria-hidden className="size-4" /> Search
      </Button>
    </form>
  );
}

/** Text with the words that were looked for marked: text alone, never markup. */
function Snippet({ title, parts }: { title: string; parts: Schemas["PartOut"][] }) {
  if (!parts.length) return null;
  return (
    <p className="break-words">
      <span className="text-xs text-muted">{title} </span>
      {parts.map((part, place) =>
        part.marked ? (
          <mark key={place} className="rounded bg-warn-soft px-0.5 text-warn">
            {part.text}
          </mark>
        ) : (
          <span key={place}>{part.text}</span>
        ),
      )}
    </p>
  );
}

export function ContentHits({ words, filter }: { words: string; filter: LogFilter }) {
  const keys = useQuery(keysQuery);
  const found = useInfiniteQuery(contentHitsQuery(words, filter));
  const hits = found.data?.pages.flatMap((page) => page.hits) ?? [];
  const labels = new Map(keys.data?.map((key) => [key.key_id, key.label]));
  return (
    <Card title="Found in prompts and answers">
      <ErrorNote error={found.error} />
      {found.isPending ? (
        <Waiting rows={4} />
      ) : (
        <>
          <p role="status" className="sr-only">
            {plural(hits.length, "request")} found{found.hasNextPage && ", and more"}
          </p>
          <ul className="divide-y divide-line">
            {hits.map((hit) => (
              <li key={hit.usage_id} className="space-y-1 px-4 py-3">
                <p className="flex flex-wrap gap-x-4">
                  <Link to="/logs/$requestId" params={{ requestId: hit.usage_id }} className="text-accent underline">
                    {time(hit.received_at)}
                  </Link>
                  <span className="font-mono text-xs leading-5">{hit.model_id}</span>
                  <span className="text-muted">{labels.get(hit.key_id) ?? hit.key_id}</span>
                </p>
                <Snippet title="Prompt" parts={hit.prompt} />
                <Snippet title="Answer" parts={hit.answer} />
              </li>
            ))}
          </ul>
          {!hits.length && <Nothing unless={found.error} title="Nothing found">Every word has to occur, whole, in the prompt or in the answer.</Nothing>}
          {found.hasNextPage && (
            <div className="border-t border-line p-3 text-center">
              <Button isDisabled={found.isFetchingNextPage} onPress={() => void found.fetchNextPage()}>Older</Button>
            </div>
          )}
        </>
      )}
    </Card>
  );
}
