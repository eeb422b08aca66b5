/** Every version of a template, what each changed, and the way back to it. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";

import type { Schemas } from "../api/client";
import { useRestoreVersion, versionsQuery } from "../api/templates";
import { ago, time } from "../format";
import { diff, linesOf } from "../template-text";
import { Button } from "./controls";
import { ErrorNote, Waiting } from "./feedback";

type Version = Schemas["TemplateVersionOut"];
const LOOKS = { same: "text-muted", gone: "bg-bad-soft text-bad", new: "bg-good-soft text-good" };
const SIGNS = { same: " ", gone: "−", new: "+" };

function Difference({ before, after }: { before: Version | undefined; after: Version }) {
  const lines = diff(before ? linesOf(before.content) : [], linesOf(after.content));
  return (
    <pre tabIndex={0} role="region" aria-label={`What version ${after.version} changed`} className="overflow-x-auto rounded-lg border border-line p-2 font-mono text-xs">
      {lines.map((line, place) => (
        <span key={place} className={`block px-1 ${LOOKS[line.kind]}`}>
          {SIGNS[line.kind]} {line.text}
        </span>
      ))}
    </pre>
  );
}

export function Versions({ templateId, mayChange }: { templateId: string; mayChange: boolean }) {
  const versions = useQuery(versionsQuery(templateId));
  const restore = useRestoreVersion();
  const [open, setOpen] = useState<number | null>(null);
  if (versions.isPending) return <Waiting rows={3} />;
  const all = versions.data ?? [];
  return (
    <div className="divide-y divide-line">
      <ErrorNote error={versions.error ?? restore.error} />
      {all.map((one, place) => (
        <div key={one.version} className="space-y-2 px-4 py-3">
          <div className="flex flex-wrap items-center justify-between gap-2">
            <button
              type="button"
              aria-expanded={open === one.version}
              onClick={() => setOpen(open === one.version ? null : one.version)}
              className="text-left hover:underline"
            >
              <span className="font-medium">Version {one.version}</span>{" "}
              <span className="text-muted" title={time(one.changed_at)}>
                {ago(one.changed_at)}
                {one.restored_from > 0 && `, version ${one.restored_from} again`}
              </span>
            </button>
            {mayChange && place > 0 && (
              <Button isDisabled={restore.isPending} onPress={() => restore.mutate({ id: templateId, version: one.version })}>
                Restore
              </Button>
            )}
          </div>
          {open === one.version && <Difference before={all[place + 1]} after={one} />}
        </div>
      ))}
    </div>
  );
}
