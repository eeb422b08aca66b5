/** The fields of a cap and of rates, and the bar that shows spend against a cap. */
import type { Schemas } from "../api/client";
import { count, dollars, nanoOf, words } from "../format";
import { Choice, Field } from "./controls";

type Limits = Schemas["LimitsOut"];
type Window = NonNullable<Schemas["ScopeLimitsIn"]["spend_cap_window"]>;

export const WINDOWS: [Window, string][] = [
  ["lifetime", "in all"],
  ["day", "a day"],
  ["week", "a week"],
  ["month", "a month"],
  ["rolling_30_days", "in any 30 days"],
];

const WHOLE = { pattern: "[0-9]*", inputMode: "numeric" } as const;
const text = (value: number | null | undefined) => (value == null ? "" : String(value));

export function CapFields({ limits }: { limits?: Limits | undefined }) {
  return (
    <div className="grid grid-cols-[minmax(0,1fr)_auto] items-start gap-3">
      <Field
        name="cap"
        label="Spend cap in USD"
        hint="Leave it empty for none; 0 allows free models only."
        pattern="[0-9]+([.][0-9]{1,9})?"
        defaultValue={limits?.spend_cap_usd ?? ""}
      />
      <Choice label="Counted" name="window" value={limits?.spend_cap_window ?? "lifetime"} options={WINDOWS} all={null} />
    </div>
  );
}

export function RateFields({ limits }: { limits?: Limits | undefined }) {
  return (
    <div className="grid gap-3 sm:grid-cols-3">
      <Field name="rpm" label="Requests a minute" defaultValue={text(limits?.rpm_limit)} {...WHOLE} />
      <Field name="rpd" label="Requests a day" defaultValue={text(limits?.rpd_limit)} {...WHOLE} />
      <Field name="tpm" label="Tokens a minute" defaultValue={text(limits?.tpm_limit)} {...WHOLE} />
    </div>
  );
}

export function limitsOf(form: FormData): Required<Omit<Schemas["ScopeLimitsIn"], "scope">> {
  const given = (name: string) => String(form.get(name) ?? "").trim();
  const whole = (name: string) => (given(name) === "" ? null : Number(given(name)));
  return {
    spend_cap_usd: given("cap") === "" ? null : given("cap"),
    spend_cap_window: given("window") as Window,
    rpm_limit: whole("rpm"),
    rpd_limit: whole("rpd"),
    tpm_limit: whole("tpm"),
  };
}

/** Rates in a few characters. */
export function rates(row: Pick<Limits, "rpm_limit" | "rpd_limit" | "tpm_limit">): string {
  return [
    row.rpm_limit !== null && `${count(row.rpm_limit)} RPM`,
    row.rpd_limit !== null && `${count(row.rpd_limit)} RPD`,
    row.tpm_limit !== null && `${count(row.tpm_limit)} TPM`,
  ]
    .filter(Boolean)
    .join(", ");
}

type Spent = {
  spend_cap_usd: string | null;
  spend_cap_window: string;
  spent_usd: string;
  held_usd: string;
};

/** How much of the cap is spent or held, in percent; only for the width of a bar. */
function share(row: Spent): number {
  if (row.spend_cap_usd === null) return 0;
  const cap = nanoOf(row.spend_cap_usd);
  if (cap === 0n) return 100;
  const taken = nanoOf(row.spent_usd) + nanoOf(row.held_usd);
  return Math.min(100, Number((100n * taken) / cap));
}

const PER: Record<string, string> = {
  lifetime: "",
  day: " a day",
  week: " a week",
  month: " a month",
  rolling_30_days: " in 30 days",
};

export function SpendBar({ row, of }: { row: Spent; of: string }) {
  if (row.spend_cap_usd === null) {
    return (
      <span>
        {dollars(row.spent_usd)} <span className="text-muted">of no cap</span>
      </span>
    );
  }
  const taken = share(row);
  const tone = taken >= 100 ? "bg-bad" : taken >= 80 ? "bg-warn" : "bg-accent";
  return (
    <div className="min-w-36 space-y-1">
      <span>
        {dollars(row.spent_usd)}{" "}
        <span className="text-muted">
          of {dollars(row.spend_cap_usd)}
          {PER[row.spend_cap_window] ?? ` a ${words(row.spend_cap_window)}`}
        </span>
      </span>
      <div
        role="meter"
        aria-label={`Spend of ${of} against its cap`}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={taken}
        className="h-1.5 overflow-hidden rounded-full bg-line"
      >
        <div className={`h-full rounded-full ${tone}`} style={{ width: `${taken}%` }} />
      </div>
    </div>
  );
}
