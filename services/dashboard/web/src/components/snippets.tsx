/** How to call the gateway from a shell, Python and JavaScript, with the reader's own address. */
import { useState } from "react";

import { Copyable, Segments } from "./controls";

const LANGUAGES = [
  ["curl", "curl"],
  ["python", "Python"],
  ["js", "JavaScript"],
] as const;
type Language = (typeof LANGUAGES)[number][0];

export type Body = { model: string; [name: string]: unknown };

export function commandOf(apiUrl: string, body: Body, route = "/v1/chat/completions"): string {
  const json = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  return `curl -s ${apiUrl}${route} \\
  -H "Authorization: Bearer $MESH_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '${json}'`;
}

function pythonOf(value: unknown): string {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `[${value.map(pythonOf).join(", ")}]`;
  if (typeof value === "object") {
    const items = Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${pythonOf(one)}`);
    return `{${items.join(", ")}}`;
  }
  return JSON.stringify(value);
}

/** `extra`: fields that OpenAI's package does not know and takes in `extra_body`. */
function codeOf(language: Language, apiUrl: string, { body, extra, secret }: { body: Body; extra: string[]; secret: string }): string {
  const code = plainCodeOf(language, apiUrl, { body, extra });
  if (!secret) return code;
  const places = { curl: "$MESH_API_KEY", python: 'os.environ["MESH_API_KEY"]', js: "process.env.MESH_API_KEY" };
  const filled = code.replace(places[language], () => (language === "curl" ? secret : JSON.stringify(secret)));
  return language === "python" ? filled.replace("import os\n", "") : filled;
}

function plainCodeOf(language: Language, apiUrl: string, { body, extra }: { body: Body; extra: string[] }): string {
  if (language === "curl") return commandOf(apiUrl, body);
  if (language === "python") {
    const known = Object.entries(body).filter(([name]) => !extra.includes(name));
    const others = Object.fromEntries(Object.entries(body).filter(([name]) => extra.includes(name)));
    const fields = known.map(([name, value]) => `    ${name}=${pythonOf(value)},`);
    if (extra.length) fields.push(`    extra_body=${pythonOf(others)},`);
    return `import os
from openai import OpenAI

client = OpenAI(base_url="${apiUrl}/v1", api_key=os.environ["MESH_API_KEY"])
answer = client.chat.completions.create(
${fields.join("\n")}
)
print(answer.choices[0].message.content)`;
  }
  return `import OpenAI from "openai";

const client = new OpenAI({ baseURL: "${apiUrl}/v1", apiKey: process.env.MESH_API_KEY });
const answer = await client.chat.completions.create(${JSON.stringify(body, null, 2)});
console.log(answer.choices[0].message.content);`;
}

export function Snippets({
  apiUrl,
  model,
  body,
  extra = [],
  secret = "",
}: {
  apiUrl: string;
  model: string;
  body?: Body;
  extra?: string[];
  /** Stands in the snippet in place of the variable; only where it is shown anyhow. */
  secret?: string;
}) {
  const [language, setLanguage] = useState<Language>("curl");
  const sent = body ?? { model, messages: [{ role: "user", content: "Say hello." }] };
  return (
    <div className="space-y-2">
      <Segments
        label="Language"
        value={language}
        options={LANGUAGES.map(([name, label]) => [name, label])}
        onChange={(name) => setLanguage(name as Language)}
      />
      <Copyable label="the snippet" text={codeOf(language, apiUrl, { body: sent, extra, secret })} />
    </div>
  );
}
