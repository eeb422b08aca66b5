/** What may be set on a key; one form creates and changes. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import type { Schemas } from "../api/client";
import { modelsQuery, useChangeKey, useCreateKey } from "../api/queries";
import { Button, Choice, Field } from "./controls";
import { ErrorNote } from "./feedback";

type Row = Schemas["KeyOut"];
type Window = NonNullable<Schemas["KeySettingsIn"]["spend_cap_window"]>;

const WINDOWS: [Window, string][] = [
  ["lifetime", "in all"],
  ["day", "a day"],
  ["week", "a week"],
  ["month", "a month"],
  ["rolling_30_days", "in any 30 days"],
];

function limitOf(form: FormData, name: string): number | null {
  const text = String(form.get(name) ?? "").trim();
  return text === "" ? null : Number(text);
}

function settingsOf(form: FormData): Schemas["KeySettingsIn"] {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const expires = text("expires");
  return {
    label: text("label"),
    spend_cap_usd: text("cap") === "" ? null : text("cap"),
    spend_cap_window: text("window") as Window,
    rpm_limit: limitOf(form, "rpm"),
    rpd_limit: limitOf(form, "rpd"),
    tpm_limit: limitOf(form, "tpm"),
    default_model: text("model"),
    default_params_json: text("params"),
    allowed_models: text("allowed").split(/[\s,]+/).filter(Boolean),
    expires_at_ms: expires === "" ? 0 : new Date(expires).getTime(),
  };
}

/** An instant as the browser's field for date and time takes it: in the reader's own zone. */
function localTime(iso: string | null): string {
  if (!iso) return "";
  const date = new Date(iso);
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

const WHOLE = { pattern: "[0-9]*", inputMode: "numeric" } as const;
const text = (value: number | null | undefined) => (value == null ? "" : String(value));

function More({ row }: { row: Row | undefined }) {
  return (
    <>
      <div className="grid gap-3 sm:grid-cols-3">
        <Field name="rpm" label="Requests a minute" defaultValue={text(row?.rpm_limit)} {...WHOLE} />
        <Field name="rpd" label="Requests a day" defaultValue={text(row?.rpd_limit)} {...WHOLE} />
        <Field name="tpm" label="Tokens a minute" defaultValue={text(row?.tpm_limit)} {...WHOLE} />
      </div>
      <Field
        name="allowed"
        label="Allowed models"
        hint="Ids, with commas between them; empty allows every model."
        defaultValue={row?.allowed_models.join(", ") ?? ""}
      />
      <Field
        name="params"
        label="Default parameters"
        hint='A JSON object beneath every request, such as {"temperature": 0.2}.'
        defaultValue={row?.default_params_json ?? ""}
      />
      <Field name="expires" type="datetime-local" label="Expires" hint="Empty: never." defaultValue={localTime(row?.expires_at ?? null)} />
    </>
  );
}

export function KeyForm({ row, onClose, onMade }: { row?: Row; onClose: () => void; onMade?: (secret: string) => void }) {
  const create = useCreateKey();
  const change = useChangeKey();
  const models = useQuery(modelsQuery);
  const [more, setMore] = useState(row !== undefined);
  const busy = create.isPending || change.isPending;
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const body = settingsOf(new FormData(event.currentTarget));
    if (row) change.mutate({ keyId: row.key_id, body }, { onSuccess: onClose });
    else create.mutate(body, { onSuccess: (made) => onMade?.(made.secret) });
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={create.error ?? change.error} />
      <Field name="label" label="Label" isRequired autoFocus maxLength={100} defaultValue={row?.label ?? ""} />
      <div className="grid grid-cols-[minmax(0,1fr)_auto] items-start gap-3">
        <Field
          name="cap"
          label="Spend cap in USD"
          hint="Leave it empty for none; 0 allows free models only."
          pattern="[0-9]+([.][0-9]{1,9})?"
          defaultValue={row?.spend_cap_usd ?? ""}
        />
        <Choice label="counted" name="window" value={row?.spend_cap_window ?? "lifetime"} options={WINDOWS} all={null} />
      </div>
      <Choice
        label="Default model, used where a request names none"
        name="model"
        value={row?.default_model ?? ""}
        options={(models.data ?? []).map((one) => [one.model_id, one.model_id])}
        all="None"
      />
      {more ? <More row={row} /> : <Button onPress={() => setMore(true)}>Limits, parameters, expiry</Button>}
      <div className="flex justify-end gap-2">
        <Button onPress={onClose}>Cancel</Button>
        <Button look="primary" type="submit" isDisabled={busy}>
          {row ? "Save" : "Create key"}
        </Button>
      </div>
    </form>
  );
}
