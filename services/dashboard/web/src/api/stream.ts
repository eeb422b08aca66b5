/**
 * What the server pushes to this tab: one stream for everything on the page, closed while nobody sees it. A browser opens six
 * connections to a host over HTTP/1.1, so that more of them would starve the other tabs.
 */
import type { Schemas } from "./client";

type Pushed = { balance: Schemas["BalanceOut"]; live: Schemas["LiveOut"]; requests: Schemas["RequestLineOut"] };
type Topic = keyof Pushed;
type Follower<T extends Topic> = {
  topic: T;
  /** Filters of the requests, as a query; those of the newest follower count. */
  query?: string;
  take: (message: Pushed[T]) => void;
  /** Whether what happens is pushed now; what happened meanwhile was not. */
  connected?: (is: boolean) => void;
};

const TOPICS: Topic[] = ["balance", "live", "requests"];
const RETRY_MS = 2_000;
const RETRY_MAX_MS = 60_000;
/** The server says of a topic that it is away every few seconds; after this long it is back. */
const AWAY_MS = 8_000;

const followers = new Set<Follower<Topic>>();
const away = new Map<Topic, number>();
let source: EventSource | null = null;
let address = "";
let retryMs = RETRY_MS;
let timer = 0;

/** Where what the page wants to know is pushed; empty where it is nothing. */
function wanted(): string {
  const topics = TOPICS.filter((topic) => [...followers].some((one) => one.topic === topic));
  if (!topics.length || document.hidden) return "";
  const query = [...followers].filter((one) => one.query).at(-1)?.query;
  return `/api/events?${topics.map((topic) => `topic=${topic}`).join("&")}${query ? `&${query}` : ""}`;
}

function say(is: boolean, topic?: Topic): void {
  for (const one of followers) {
    if ((!topic || one.topic === topic) && !(is && away.has(one.topic))) one.connected?.(is);
  }
}

function isAway(topic: Topic): void {
  clearTimeout(away.get(topic));
  away.set(
    topic,
    window.setTimeout(() => {
      away.delete(topic);
      if (source?.readyState === EventSource.OPEN) say(true, topic);
    }, AWAY_MS),
  );
  say(false, topic);
}

function close(): void {
  clearTimeout(timer);
  for (const waits of away.values()) clearTimeout(waits);
  away.clear();
  if (!source) return;
  source.close();
  source = null;
  say(false);
}

function open(): void {
  close();
  if (!address) return;
  const opened = new EventSource(address);
  source = opened;
  opened.onopen = () => {
    retryMs = RETRY_MS;
    say(true);
  };
  opened.onerror = () => {
    say(false);
    // The browser connects again by itself, but not after a refusal.
    if (opened.readyState !== EventSource.CLOSED) return;
    timer = window.setTimeout(open, retryMs);
    retryMs = Math.min(retryMs * 2, RETRY_MAX_MS);
  };
  for (const topic of TOPICS) {
    opened.addEventListener(topic, (event: MessageEvent<string>) => {
      const message = JSON.parse(event.data) as Pushed[Topic];
      for (const one of followers) if (one.topic === topic) one.take(message);
    });
  }
  opened.addEventListener("away", (event: MessageEvent<string>) => {
    isAway((JSON.parse(event.data) as Schemas["AwayOut"]).topic as Topic);
  });
}

function tune(): void {
  const next = wanted();
  if (next === address) return;
  address = next;
  retryMs = RETRY_MS;
  open();
}

/** Begins anew, because another session has taken the place of the one that the stream is for. */
export function reconnect(): void {
  address = "";
  close();
  tune();
}

/** Once for all that changes together, as when a page takes the place of another. */
function tuneSoon(): void {
  window.setTimeout(tune);
}

document.addEventListener("visibilitychange", tune);

/** Is told of a topic until it calls what this gives back. */
export function follow<T extends Topic>(follower: Follower<T>): () => void {
  const one = follower as unknown as Follower<Topic>;
  followers.add(one);
  if (source?.readyState === EventSource.OPEN && wanted() === address && !away.has(one.topic)) one.connected?.(true);
  tuneSoon();
  return () => {
    followers.delete(one);
    tuneSoon();
  };
}
