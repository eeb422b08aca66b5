// Pictures of every page: light and dark, wide and on a phone, empty, loading, full and in error.
// Arguments: a JSON object {url, email, password, shots, requestId, templateId, only}.
import { mkdirSync } from "node:fs";

import { asked, context, tell } from "./chromium.mjs";
import { operatorPictures } from "./screenshots_operator.mjs";

const { url, email, password, shots } = asked;
const PASSWORD = "a long pass phrase";
const SIZES = { wide: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };
const PAGES = {
  overview: "/", playground: "/playground", keys: "/keys", billing: "/billing", logs: "/logs", models: "/models",
  templates: "/templates", limits: "/limits", alerts: "/alerts", settings: "/settings",
};
const LONGEST_PX = 2_000;
const taken = [];
const crooked = [];

/** A browser of one person, in each of its sizes and colours. */
async function person(credentials, path) {
  const own = await context.browser().newContext({ viewport: SIZES.wide });
  const answer = await own.request.post(`${url}/api/${path}`, { data: credentials });
  if (!answer.ok()) throw new Error(`${path}: ${answer.status()} ${await answer.text()}`);
  return own;
}

async function settled(page) {
  await page.waitForLoadState("load");
  // Streams stay open, so that the network is never idle: what waits says so.
  await page.getByRole("status", { name: "Loading" }).first().waitFor({ state: "detached", timeout: 10_000 }).catch(() => {});
  await page.evaluate(() => document.fonts.ready);
  // Small figures come after the page: a cell shows dots until then.
  await page.waitForFunction(() => ![...document.querySelectorAll("td, [role=cell], p, dd")].some((one) => one.textContent === "…"), undefined, { timeout: 5_000 }).catch(() => {});
  await page.waitForTimeout(350);
}

async function shot(page, name) {
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (tooWide > 0) crooked.push(`${name}, ${size}: ${tooWide} px too wide`);
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      await page.waitForTimeout(120);
      // Behind a dialog only the window is dark.
      const longest = (await page.getByRole("dialog").count()) ? viewport.height : LONGEST_PX;
      const height = Math.min(longest, await page.evaluate(() => document.documentElement.scrollHeight));
      const file = `${name}-${size}-${scheme}.png`;
      await page.screenshot({ path: `${shots}/${file}`, fullPage: true, clip: { x: 0, y: 0, width: viewport.width, height: Math.max(height, viewport.height) } });
      taken.push(file);
    }
  }
  await page.setViewportSize(SIZES.wide);
}

/** Every page of one person; `before` prepares each tab. */
async function walk(own, state, pages, before = async () => {}) {
  for (const [name, path] of Object.entries(pages)) {
    const page = await own.newPage();
    await before(page);
    await page.goto(url + path);
    if (state === "loading") await page.waitForTimeout(600);
    else await settled(page);
    await shot(page, `${name}-${state}`);
    await page.close();
  }
}

const ASKED_FIRST = /\/api\/(session|log-in-options|accounts)$/;
const hang = (page) => page.route("**/api/**", (route) => (ASKED_FIRST.test(route.request().url()) ? route.continue() : undefined));
const fail = (page) =>
  page.route("**/api/**", (route) =>
    ASKED_FIRST.test(route.request().url())
      ? route.continue()
      : route.fulfill({
          status: 400,
          contentType: "application/json",
          body: JSON.stringify({
            error: { code: "service_unavailable", message: "This part of Mesh does not answer now; try again in a moment." },
            request_id: "req_01KDVDQ3G0AAAAAAAAAAAAAA01",
          }),
        }),
  );

/** What everybody sees: at the door, and the pages of one account. */
async function pictures(full, session) {
  const stranger = await context.browser().newContext({ viewport: SIZES.wide });
  const door = await stranger.newPage();
  await door.goto(`${url}/log-in`);
  await settled(door);
  await shot(door, "log-in");
  await door.goto(`${url}/log-in?problem=unverified&request_id=req_01KDVDQ3G0AAAAAAAAAAAAAA01`);
  await settled(door);
  await shot(door, "log-in-error");

  const headers = { "x-mesh-csrf": session.csrf_token };
  const guest = { email: "grace@example.com", role: "developer" };
  const sent = await (await full.request.post(`${url}/api/invitations`, { data: guest, headers })).json();
  await door.goto(sent.link);
  await settled(door);
  await shot(door, "join");
  const pages = { ...PAGES, request: `/logs/${asked.requestId}`, template: `/templates/${asked.templateId}` };
  await walk(full, "full", { ...pages, search: "/logs?words=ledger" });
  const tab = await full.newPage();
  await tab.goto(`${url}/keys`);
  await tab.getByRole("button", { name: "Create key" }).first().click();
  await tab.getByRole("dialog").waitFor();
  await shot(tab, "create-key");
  await tab.goto(`${url}/settings`);
  await tab.getByRole("button", { name: "Invite a person" }).click();
  await tab.getByRole("dialog").getByLabel("E-mail").fill("linus@example.com");
  await shot(tab, "invite");
  await tab.goto(`${url}/models`);
  await tab.getByText("local/smollm2-135m", { exact: true }).click();
  await tab.getByRole("dialog").waitFor();
  await settled(tab);
  await shot(tab, "model");
  await tab.goto(`${url}/keys`);
  await tab.getByRole("heading", { level: 1, name: "API Keys" }).waitFor();
  await tab.keyboard.press("Control+k");
  await tab.getByRole("dialog").getByRole("menuitem").first().waitFor();
  await shot(tab, "go-to");
  await walk(full, "loading", pages, hang);
  await walk(full, "error", pages, fail);
  const fresh = await person({ email: `new-${Date.now()}@example.com`, password: PASSWORD, name: "Grace" }, "sign-up");
  await walk(fresh, "empty", { ...PAGES, template: "/templates/new" });
}

await tell(async () => {
  mkdirSync(shots, { recursive: true });
  const full = await person({ email, password }, "session");
  const session = await (await full.request.get(`${url}/api/session`)).json();
  if (asked.only !== "operator") await pictures(full, session);
  await operatorPictures({ url, own: full, accountId: session.account_id, walk, shot, settled, hang, fail });
  return { taken, crooked };
});
