/** How figures are written. Money stays a decimal string: nothing here adds or multiplies it. */

const PLACES = 6;

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

export function count(value: number): string {
  return value.toLocaleString("en-US");
}

export function milliseconds(value: number): string {
  if (value <= 0) return "–";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(2)} s`;
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
