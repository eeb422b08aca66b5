/** Templates as texts: which slots they have, how they look filled, how two versions differ. */
import type { Schemas } from "./api/client";
import type { ChatMessage } from "./chat";

export type Content = Schemas["TemplateContentOut"];

const SLOT = /\{\{\s*([A-Za-z0-9_]+)\s*\}\}/g;

export function slotsOf(content: Pick<Content, "system" | "messages">): string[] {
  const texts = [content.system, ...content.messages.map((message) => message.content)];
  return [...new Set(texts.flatMap((text) => [...text.matchAll(SLOT)].map((found) => found[1] ?? "")))];
}

/** The messages of a template with every slot filled, the system prompt first; what fills them is not looked at again. */
export function filledMessages(content: Pick<Content, "system" | "messages">, values: Record<string, string>): ChatMessage[] {
  const filled = (text: string) => text.replace(SLOT, (_, name: string) => values[name] ?? "");
  const system = content.system ? [{ role: "system" as const, content: filled(content.system) }] : [];
  const others = content.messages.map((message) => ({ role: message.role as ChatMessage["role"], content: filled(message.content) }));
  return [...system, ...others];
}

export type DiffLine = { kind: "same" | "gone" | "new"; text: string };

/** A version as lines of text, for people to compare. */
export function linesOf(content: Content): string[] {
  return [
    `name: ${content.name}`,
    ...(content.description ? [`description: ${content.description}`] : []),
    ...(content.model ? [`model: ${content.model}`] : []),
    ...Object.entries(content.params).map(([name, value]) => `${name}: ${JSON.stringify(value)}`),
    ...content.system.split("\n").map((line) => `system | ${line}`),
    ...content.messages.flatMap((message) =>
      message.content.split("\n").map((line) => `${message.role} | ${line}`),
    ),
  ];
}

/** What of `before` is gone and what of `after` is new, by the longest common subsequence of lines. */
export function diff(before: string[], after: string[]): DiffLine[] {
  const length = Array.from({ length: before.length + 1 }, () => new Array<number>(after.length + 1).fill(0));
  const at = (row: number, column: number) => length[row]?.[column] ?? 0;
  for (let row = before.length - 1; row >= 0; row--) {
    for (let column = after.length - 1; column >= 0; column--) {
      const line = length[row];
      if (line) {
        line[column] =
          before[row] === after[column]
            ? at(row + 1, column + 1) + 1
            : Math.max(at(row + 1, column), at(row, column + 1));
      }
    }
  }
  const lines: DiffLine[] = [];
  let [row, column] = [0, 0];
  while (row < before.length || column < after.length) {
    const [old, now] = [before[row], after[column]];
    if (old !== undefined && old === now) {
      lines.push({ kind: "same", text: old });
      row++;
      column++;
    } else if (now === undefined || (old !== undefined && at(row + 1, column) >= at(row, column + 1))) {
      lines.push({ kind: "gone", text: old ?? "" });
      row++;
    } else {
      lines.push({ kind: "new", text: now });
      column++;
    }
  }
  return lines;
}
