// Pictures of the operators' pages, in every state; `screenshots.mjs` takes them beside all others.

const PLACES = {
  "operator-accounts": "/operator",
  "operator-providers": "/operator/providers",
  "operator-prices": "/operator/prices",
  "operator-grants": "/operator/grants",
  "operator-books": "/operator/books",
  "operator-log": "/operator/log",
};

// A running installation has providers, prices and consumers: what the pages say without them is seen by empty answers.
const NONE = {
  accounts: { accounts: [], next_page_token: "" },
  providers: [],
  models: [],
  grants: { grants: [], next_page_token: "" },
  differences: { differences: [], compared_at: null },
  consumers: { groups: [], leftover: [], away: [], log_away: "" },
  "dead-letters": { letters: [], open: 0, older: false, away: [] },
};
// What seldom is: a worker that did not come back, books that do not agree, a log that is away.
const SELDOM = (accountId) => {
  const grant = { account_id: accountId, key_id: "key_01KDVDQ3G0AAAAAAAAAAAAAA01", settled_usd: "0.0031", expires_at: new Date(Date.now() - 5e6).toISOString() };
  const hour = { account_id: accountId, hour: new Date(Date.now() - 9e6).toISOString(), cost_differs: [], only_in_ledger: [] };
  return {
    grants: {
      grants: [
        { ...grant, grant_id: "grt_01KDVDQ3G0AAAAAAAAAAAAAA01", worker_id: "gateway-7c9d-1", status: "unresolved", amount_usd: "0.5", held_usd: "0.4969" },
        { ...grant, grant_id: "grt_01KDVDQ3G0AAAAAAAAAAAAAA02", worker_id: "gateway-7c9d-2", status: "open", amount_usd: "0.25", held_usd: "0.2469" },
      ],
      next_page_token: "",
    },
    differences: {
      differences: [{ ...hour, log_requests: 41, log_cost_usd: "0.0123", ledger_requests: 40, ledger_cost_usd: "0.012", only_in_log: ["req_01KDVDQ3G0AAAAAAAAAAAAAA01"] }],
      compared_at: new Date(Date.now() - 6e5).toISOString(),
    },
  };
};

const answering = (answers) => (page) =>
  page.route("**/api/operator/**", (route) => {
    const body = answers[new URL(route.request().url()).pathname.split("/api/operator/")[1]];
    return body === undefined ? route.continue() : route.fulfill({ json: body });
  });

export async function operatorPictures({ url, own, accountId, walk, shot, settled, hang, fail }) {
  const pages = { ...PLACES, "operator-account": `/operator/accounts/${accountId}` };
  await walk(own, "full", pages);
  const { grants, differences } = SELDOM(accountId);
  await walk(own, "full", { "operator-grants": PLACES["operator-grants"] }, answering({ grants }));
  await walk(own, "differing", { "operator-books": PLACES["operator-books"] }, answering({ differences }));
  await walk(own, "loading", pages, hang);
  await walk(own, "error", pages, fail);
  await walk(own, "empty", PLACES, answering(NONE));

  const tab = await own.newPage();
  const opened = async (place, name, ...presses) => {
    await tab.goto(url + place);
    for (const press of presses) await press();
    await settled(tab);
    await shot(tab, name);
  };
  const press = (name) => () => tab.getByRole("button", { name }).first().click();
  const dialog = () => tab.getByRole("dialog").waitFor();
  await opened("/operator/providers", "operator-provider", press(/^OpenAI$/), dialog);
  await opened("/operator/providers", "operator-credential", press(/^OpenAI$/), press("Add a credential"), dialog);
  await opened("/operator/prices", "operator-price", () => tab.getByLabel("Search").fill("smollm2"), press("local/smollm2-135m"), dialog);
  await opened("/operator/log", "operator-letter", press(/^Open letter/), dialog);
  await opened("/operator/log", "operator-letters", () => tab.getByLabel("Which letters").selectOption({ label: "All" }));
  await opened("/operator/log", "operator-lag", press(/^billing-usage$/), dialog);
  await opened(`/operator/accounts/${accountId}`, "operator-credit", press("Give credit"), dialog);
  await opened("/operator/books", "operator-verified", press("Verify now"), press("Compare now"), () => tab.getByText(/hours of accounts: /).waitFor());
  await tab.route("**/api/operator/consumers", async (route) => {
    const found = await (await route.fetch()).json();
    return route.fulfill({ json: { ...found, log_away: "Kafka does not answer: KafkaConnectionError", away: [{ service: "usage-live", message: "usage-live is not available" }] } });
  });
  await opened("/operator/log", "operator-log-away");
  await tab.close();
}
