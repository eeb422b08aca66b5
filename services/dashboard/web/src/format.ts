/** How figures are written. Money stays a decimal string, or whole nano-dollars: never a float. */

const PLACES = 6;
const NANO_PLACES = 9;

/** Dollars with at least two places: cut after the sixth, but whole where it is less than a cent. */
export function dollars(amount: string): string {
  const negative = amount.startsWith("-");
  const [whole = "0", fraction = ""] = amount.replace("-", "").split(".");
  const small = whole === "0" && fraction.startsWith("00");
  const digits = small ? fraction : fraction.slice(0, PLACES);
  const shown = digits.replace(/0+$/, "").padEnd(2, "0");
  return `${negative ? "−" : ""}$${Number(whole).toLocaleString("en-US")}.${shown}`;
}

/** Dollars to the nano-dollar. */
export function dollarsExact(amount: string): string {
  return amount.startsWith("-") ? `−$${amount.slice(1)}` : `$${amount}`;
}

/** Whole nano-dollars of a decimal string of dollars. */
export function nanoOf(amount: string): bigint {
  const [whole = "0", fraction = ""] = amount.replace("-", "").split(".");
  const nano = BigInt(whole + fraction.slice(0, NANO_PLACES).padEnd(NANO_PLACES, "0"));
  return amount.startsWith("-") ? -nano : nano;
}

/** Dollars, for the height of a bar or a point of a curve; never for a figure that is written. */
export function plotted(amount: string): number {
  return Number(amount);
}

/** A price per million tokens as one per thousand, exactly. */
export function perThousand(usdPerMillion: string): string {
  const nano = nanoOf(usdPerMillion).toString().padStart(NANO_PLACES + 1, "0");
  const whole = nano.slice(0, -NANO_PLACES);
  const digits = whole.padStart(4, "0") + nano.slice(-NANO_PLACES);
  const places = NANO_PLACES + 3;
  return `${BigInt(digits.slice(0, -places) || "0")}.${digits.slice(-places).replace(/0+$/, "").padEnd(2, "0")}`;
}

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** A count with its noun, which is one of them or several: `plural(1, "request")`. */
export function plural(value: number, one: string, several = `${one}s`): string {
  return `${count(value)} ${value === 1 ? one : several}`;
}

/** A count in few characters, for axes and tight cells. */
export function compact(value: number): string {
  return new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 }).format(value);
}

export function percent(part: number, whole: number): string {
  return whole === 0 ? "–" : `${((100 * part) / whole).toFixed(1)} %`;
}

export function milliseconds(value: number): string {
  if (value <= 0) return "–";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;
}

/** How long something took that did happen: never nothing. */
export function took(value: number): string {
  return value < 1 ? "< 1 ms" : milliseconds(value);
}

const TIME = new Intl.DateTimeFormat(undefined, {
  month: "short",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  hour12: false,
});

export function time(iso: string): string {
  return iso ? TIME.format(new Date(iso)) : "";
}

/** An instant as the browser's field for date and time takes it: in the reader's own zone. */
export function localTime(instant: string | number): string {
  const date = new Date(instant);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const STEPS: [number, Intl.RelativeTimeFormatUnit][] = [
  [60, "second"],
  [60, "minute"],
  [24, "hour"],
  [30, "day"],
  [12, "month"],
];

/** How long ago, in words. */
export function ago(iso: string | null): string {
  if (!iso) return "never";
  let value = (Date.parse(iso) - Date.now()) / 1000;
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [size, unit] of STEPS) {
    if (Math.abs(Math.round(value)) < size) return words.format(Math.round(value), unit);
    value /= size;
  }
  return words.format(Math.round(value), "year");
}

const OUTCOMES: Record<string, string> = {
  success: "Success",
  refused: "Refused",
  upstream_error: "Provider failed",
  client_gone: "Client hung up",
  limit_reached: "Limit reached",
  crashed: "Gateway restarted",
};

export function outcome(name: string): string {
  return OUTCOMES[name] ?? name;
}

/** `rolling_30_days` as words. */
export function words(name: string): string {
  return name.replaceAll("_", " ");
}
