// What the pages of money and of the log do together, in headless Chromium: the one stream, the ways from spending to its
// requests, the search in what was said, files, two versions side by side. Arguments: a JSON object {url, email, password,
// apiUrl}. Prints a JSON object of what it saw; a step that cannot be done ends it with a non-zero exit code.
import { asked, barriers, context, examine, page, problems, tell, visit } from "./chromium.mjs";

const { url, email, password, apiUrl } = asked;
const MODEL = "local/smollm2-135m";
const WORD = `zebra${Date.now()}`;
const MARKUP = `<img src=x onerror="alert(1)"><b>${WORD}</b>`;

page.on("dialog", (dialog) => {
  problems.push(`a script ran: ${dialog.message()}`);
  void dialog.dismiss();
});
page.on("console", (message) => {
  if (/Content Security Policy/.test(message.text())) problems.push(message.text());
});
// Every stream that the page opens, while it is open.
await page.addInitScript(() => {
  globalThis.streams = { open: 0, most: 0, made: [] };
  const Plain = EventSource;
  globalThis.EventSource = class extends Plain {
    constructor(address) {
      super(address);
      globalThis.streams.open += 1;
      globalThis.streams.most = Math.max(globalThis.streams.most, globalThis.streams.open);
      globalThis.streams.made.push(address);
    }
    close() {
      if (this.readyState !== Plain.CLOSED) globalThis.streams.open -= 1;
      super.close();
    }
  };
});
const streams = () => page.evaluate(() => globalThis.streams);

let csrf = "";
async function call(method, path, data) {
  const answer = await context.request.fetch(`${url}/api${path}`, { method, data, headers: csrf ? { "x-mesh-csrf": csrf } : {} });
  if (!answer.ok()) throw new Error(`${path}: ${answer.status()} ${await answer.text()}`);
  return answer;
}

/** One request of the gateway: its request id. A new key is in force within a second. */
async function say(secret, content, model = MODEL) {
  const body = { model, max_tokens: 8, messages: [{ role: "user", content }] };
  const headers = { authorization: `Bearer ${secret}`, "content-type": "application/json" };
  for (let turn = 0; ; turn += 1) {
    const answer = await fetch(`${apiUrl}/v1/chat/completions`, { method: "POST", headers, body: JSON.stringify(body) });
    await answer.text();
    if (answer.status !== 401 || turn >= 20) return answer.headers.get("x-request-id");
    await page.waitForTimeout(250);
  }
}

/** As the browser tells a page that it is out of sight, or back. */
const turn = (hidden) =>
  page.evaluate((is) => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => is });
    document.dispatchEvent(new Event("visibilitychange"));
  }, hidden);

await tell(async () => {
  csrf = (await (await call("POST", "/session", { email, password })).json()).csrf_token;
  const made = await (await call("POST", "/keys", { label: `pages ${WORD}`, content_stored: true })).json();
  const [secret, keyId] = [made.secret, made.key.key_id];
  const first = await say(secret, `${MARKUP} Say hello.`);

  // One stream, whatever is on the page, and none while nobody sees it.
  await page.goto(url);
  await page.getByRole("region", { name: "The last minute" }).getByText("Last minute").waitFor();
  await visit("Logs");
  await page.getByText("Live", { exact: true }).waitFor();
  await visit("Billing");
  await visit("Logs");
  await page.getByText("Live", { exact: true }).waitFor();
  const rows = page.locator("[data-usage]");
  await rows.first().waitFor();
  await turn(true);
  await page.waitForFunction(() => globalThis.streams.open === 0);
  const unseen = await say(secret, "Count to three.");
  for (let wait = 0; wait < 60 && !(await context.request.get(`${url}/api/requests/${unseen}`)).ok(); wait += 1) await page.waitForTimeout(250);
  await turn(false);
  const missed = await (await call("GET", `/requests/${unseen}`)).json();
  await page.locator(`[data-usage="${missed.usage_id}"]`).waitFor();
  const opened = await streams();

  // From what was spent to its requests: by a bar, by a day with the keyboard, by a line.
  await visit("Billing");
  const spend = page.getByRole("table", { name: "Spending by day" });
  await spend.getByRole("row").nth(1).waitFor();
  const testModes = await page.getByText("TEST MODE.").count();
  await examine("billing");
  await page.getByText("Key", { exact: true }).first().click();
  await page.getByRole("list", { name: "Spend by value" }).getByRole("link", { name: `pages ${WORD}` }).click();
  await page.getByRole("heading", { level: 1, name: "Logs" }).waitFor();
  const byBar = page.url();
  await rows.first().waitFor();
  const barRows = await page.evaluate(() => document.querySelectorAll("[data-usage]").length);
  await page.goBack();
  await spend.getByRole("row").nth(1).waitFor();
  await page.getByRole("list", { name: "Spend by day" }).getByRole("link").last().focus();
  await page.keyboard.press("ArrowLeft");
  const yesterday = await page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
  await page.keyboard.press("End");
  const today = await page.evaluate(() => document.activeElement?.getAttribute("aria-label"));
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Logs" }).waitFor();
  const byDay = page.url();
  const between = [await page.getByLabel("From", { exact: true }).inputValue(), await page.getByLabel("Until", { exact: true }).inputValue()];
  await page.goBack();
  await spend.getByRole("row").filter({ hasText: `pages ${WORD}` }).getByRole("link", { name: MODEL }).click();
  await page.getByRole("heading", { level: 1, name: "Logs" }).waitFor();
  const byRow = page.url();
  await rows.first().waitFor();

  // One request is one request, and comes as a file.
  await page.goto(`${url}/logs?trace_id=${missed.trace_id}`);
  const totals = await page.getByText(/^1 request, /).innerText();
  const traceField = await page.getByLabel("Trace id").inputValue();
  const csv = await page.getByRole("link", { name: "CSV" }).getAttribute("href");
  const file = await (await context.request.get(url + csv)).text();

  // What was said is found, and is text.
  await visit("Logs");
  const words = page.getByLabel("Search in stored prompts and answers");
  const hit = page.getByRole("listitem").filter({ has: page.locator("mark", { hasText: WORD }) });
  // What is stored is there a moment after the request.
  for (let wait = 0; wait < 40; wait += 1) {
    if ((await (await call("GET", `/contents?words=${WORD}`)).json()).hits.length) break;
    await page.waitForTimeout(250);
  }
  await words.fill(`${WORD} hello`);
  await page.keyboard.press("Enter");
  await hit.waitFor();
  const found = await hit.innerText();
  await examine("search");
  await page.emulateMedia({ colorScheme: "dark" });
  await examine("search, dark");
  await page.emulateMedia({ colorScheme: "light" });
  const searched = page.url();
  await hit.getByRole("link").click();
  await page.getByRole("heading", { level: 1, name: "Request" }).waitFor();
  const timeline = await page.getByRole("list", { name: "Timeline" }).innerText();
  const shown = await page.locator("main").innerText();
  await examine("request");

  // Anywhere from anywhere, without the mouse.
  await page.keyboard.press("Control+k");
  await page.getByRole("dialog", { name: "Go to" }).waitFor();
  await page.getByRole("menuitem", { name: "Overview" }).waitFor();
  await examine("go to");
  await page.keyboard.type(WORD);
  await page.getByRole("menuitem", { name: `pages ${WORD}` }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Logs" }).waitFor();
  const byName = page.url();

  // Two versions of a template side by side.
  const content = { name: `side ${WORD}`, description: "", system: "Say {{ what }}.", messages: [{ role: "user", content: "Now." }], model: MODEL, params: { max_tokens: 8 }, variables: ["what"] };
  const template = await (await call("POST", "/templates", content)).json();
  await call("PUT", `/templates/${template.template_id}`, { ...content, system: "Whisper {{ what }} to {{ whom }}.", variables: ["what", "whom"] });
  await page.goto(`${url}/templates/${template.template_id}`);
  await page.getByLabel("Its version").selectOption("1");
  await page.getByLabel("what", { exact: true }).fill("hello");
  await page.getByLabel("whom", { exact: true }).fill("Ada");
  await page.getByRole("button", { name: "Run" }).click();
  const outcomes = page.getByRole("status").filter({ hasText: ", version" });
  await outcomes.filter({ hasText: "version 1" }).getByText(/tokens$/).waitFor();
  await outcomes.filter({ hasText: "version 2" }).getByText(/tokens$/).waitFor();
  const sides = await outcomes.allInnerTexts();
  await call("DELETE", `/templates/${template.template_id}`);

  return { first, keyId, opened, unseen, testModes, byBar, barRows, yesterday, today, byDay, between, byRow, byName, totals, traceField, file, found, searched, timeline, shown, sides, barriers };
});
