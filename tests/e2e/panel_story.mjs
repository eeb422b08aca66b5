// A new person's first hour with the panel, in headless Chromium. Arguments: a JSON object {url, apiUrl, python, shots}.
// Prints a JSON object of what it saw; a step that cannot be done ends it with a non-zero exit code.
import { execFile } from "node:child_process";
import { mkdirSync } from "node:fs";

import { asked, context, page, problems, tell, visit } from "./chromium.mjs";

const { url, apiUrl, python, shots } = asked;
const MARKUP = "<img src=x onerror=\"alert(1)\"><script>alert(2)</script>";
// Markup that became part of the page either runs or is stopped by the policy; both are told here.
page.on("dialog", (dialog) => {
  problems.push(`a script ran: ${dialog.message()}`);
  void dialog.dismiss();
});
page.on("console", (message) => {
  if (/Content Security Policy/.test(message.text())) problems.push(message.text());
});

/** One call through the `openai` SDK: what it answers, or how it is refused. */
function call(key, body) {
  const program =
    "import json, openai, sys\n" +
    "a = json.loads(sys.argv[1])\n" +
    "client = openai.OpenAI(base_url=a['url'] + '/v1', api_key=a['key'], max_retries=0)\n" +
    "try:\n" +
    "    raw = client.chat.completions.with_raw_response.create(**a['body'])\n" +
    "    said = raw.parse().choices[0].message.content\n" +
    "    print(json.dumps({'status': 200, 'text': said, 'id': raw.headers['x-request-id']}))\n" +
    "except openai.APIStatusError as e:\n" +
    "    print(json.dumps({'status': e.status_code, 'text': e.message, 'id': e.response.headers['x-request-id']}))\n";
  return new Promise((resolve, reject) => {
    execFile(python, ["-c", program, JSON.stringify({ url: apiUrl, key, body })], (error, out, err) =>
      error ? reject(new Error(err)) : resolve(JSON.parse(out)));
  });
}

/** Opens the newest request of the log, once it is there. */
async function newestRequest(requestId) {
  await page.goto(`${url}/logs/${requestId}`);
  // The log is filled from the stream of events, so a request is there a moment after it ended.
  for (let turn = 0; turn < 40; turn += 1) {
    const found = await context.request.get(`${url}/api/requests/${requestId}`);
    if (found.ok()) break;
    await page.waitForTimeout(250);
  }
  await page.reload();
  await page.getByRole("heading", { level: 1, name: "Request" }).waitFor();
  await page.getByText("What happened").waitFor();
  return await page.locator("main").innerText();
}

const say = { model: "local/smollm2-135m", max_tokens: 16, messages: [{ role: "user", content: "Say hello." }] };

await tell(async () => {
  await page.goto(url);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByLabel("Name").fill("Grace");
  await page.getByLabel("E-mail").fill(`grace-${Date.now()}@example.com`);
  await page.getByLabel("Password").fill("a long pass phrase");
  await page.getByRole("button", { name: "Sign up" }).click();
  await page.getByRole("heading", { level: 1, name: "Overview" }).waitFor();

  await visit("Billing");
  const balance = async () => (await (await context.request.get(`${url}/api/balance`)).json()).posted_usd;
  const before = await balance();
  await page.getByRole("button", { name: "Top up" }).click();
  await page.getByLabel("Amount in USD").fill("20");
  await page.getByRole("button", { name: "Continue to payment" }).click();
  await page.getByRole("heading", { name: "Pay with" }).waitFor();
  await page.getByLabel("Card number").fill("4242 4242 4242 4242");
  await page.getByRole("button", { name: "Pay $20.00" }).click();
  await page.getByRole("heading", { level: 1, name: "Billing" }).waitFor();
  await page.getByRole("table", { name: "Payments" }).getByText("paid", { exact: true }).first().waitFor();
  const after = await balance();

  await visit("API Keys");
  await page.getByRole("button", { name: "Create key" }).first().click();
  await page.getByLabel("Label").fill(MARKUP);
  await page.getByRole("dialog").getByRole("button", { name: "Create key" }).click();
  const key = await page.getByRole("dialog").getByText(/^rsk_/).first().innerText();
  await page.getByRole("button", { name: "Done" }).click();
  await page.getByText(MARKUP).first().waitFor();

  const first = await call(key, say);
  const firstDetails = await newestRequest(first.id);

  await visit("API Keys");
  await page.getByRole("button", { name: `Actions for ${MARKUP}` }).click();
  await page.getByRole("menuitem", { name: "Edit" }).click();
  await page.getByLabel("Spend cap in USD").fill("0.000000001");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  let capped = await call(key, say);
  // A change of a key is in force everywhere within a second; a loaded machine gets longer.
  for (let turn = 0; turn < 20 && capped.status === 200; turn += 1) {
    await page.waitForTimeout(250);
    capped = await call(key, say);
  }
  const cappedDetails = await newestRequest(capped.id);

  await visit("Templates");
  await page.getByRole("link", { name: "New template" }).click();
  await page.getByLabel("Name").fill(MARKUP);
  await page.getByLabel("System", { exact: true }).click();
  await page.keyboard.type(`${MARKUP} You write about {{ topic }}.`);
  await page.getByRole("button", { name: "Create" }).click();
  await page.getByText("Version 1").first().waitFor();
  const template = page.url().split("/").at(-1);
  await visit("Templates");
  await page.getByText(MARKUP).first().waitFor();

  await visit("API Keys");
  await page.getByRole("button", { name: `Actions for ${MARKUP}` }).click();
  await page.getByRole("menuitem", { name: "Edit" }).click();
  await page.getByLabel("Spend cap in USD").fill("5");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByRole("dialog").waitFor({ state: "hidden" });
  const used = { ...say, extra_body: { template, variables: { topic: "the sea" } } };
  let templated = await call(key, used);
  for (let turn = 0; turn < 20 && templated.status !== 200; turn += 1) {
    await page.waitForTimeout(250);
    templated = await call(key, used);
  }
  const missing = await call(key, { ...say, extra_body: { template, variables: {} } });
  // A model's name in an address and in the log is text too.
  const strange = await call(key, { ...say, model: MARKUP });
  await page.goto(`${url}/logs?model=${encodeURIComponent(MARKUP)}`);
  await page.getByRole("heading", { level: 1, name: "Logs" }).waitFor();
  if (shots) {
    mkdirSync(shots, { recursive: true });
    await page.screenshot({ path: `${shots}/story-logs.png` });
  }
  return { before, after, first, firstDetails, capped, cappedDetails, templated, missing, strange };
});
