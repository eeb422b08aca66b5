/** Limits of single models under one key, a line for each. */
import { X } from "lucide-react";

import type { Schemas } from "../api/client";
import { Button, Choice, Field } from "./controls";
import { WINDOWS } from "./limit-fields";

type Row = Schemas["ModelLimitsIn"];

const RATES = [
  ["rpm_limit", "RPM"],
  ["rpd_limit", "RPD"],
  ["tpm_limit", "TPM"],
] as const;

export function ModelLimits({ rows, models, onChange }: { rows: Row[]; models: string[]; onChange: (rows: Row[]) => void }) {
  const free = models.filter((id) => !rows.some((row) => row.model_id === id));
  const change = (id: string, part: Partial<Row>) =>
    onChange(rows.map((row) => (row.model_id === id ? { ...row, ...part } : row)));
  return (
    <fieldset className="space-y-3">
      <legend className="mb-1 font-medium">Limits of single models</legend>
      {rows.map((row) => (
        <div key={row.model_id} role="group" aria-label={`Limits of ${row.model_id}`} className="space-y-2 rounded-lg border border-line p-3">
          <div className="flex items-center justify-between gap-2">
            <span className="break-all font-mono text-xs">{row.model_id}</span>
            <Button aria-label={`Remove the limits of ${row.model_id}`} onPress={() => onChange(rows.filter((one) => one !== row))}>
              <X aria-hidden className="size-4" />
            </Button>
          </div>
          <div className="grid grid-cols-[minmax(0,1fr)_auto] items-end gap-2">
            <Field
              label="Cap in USD"
              pattern="[0-9]+([.][0-9]{1,9})?"
              value={row.spend_cap_usd ?? ""}
              onChange={(text) => change(row.model_id, { spend_cap_usd: text.trim() || null })}
            />
            <Choice
              label="counted"
              value={row.spend_cap_window}
              options={WINDOWS}
              all={null}
              onChange={(name) => change(row.model_id, { spend_cap_window: name as Row["spend_cap_window"] })}
            />
          </div>
          <div className="grid grid-cols-3 gap-2">
            {RATES.map(([name, label]) => (
              <Field
                key={name}
                label={label}
                inputMode="numeric"
                value={row[name] == null ? "" : String(row[name])}
                onChange={(text) => {
                  const digits = text.replace(/\D/g, "");
                  change(row.model_id, { [name]: digits === "" ? null : Number(digits) });
                }}
              />
            ))}
          </div>
        </div>
      ))}
      {free.length > 0 && (
        <Choice
          label="Add a model"
          value=""
          options={free.map((id) => [id, id])}
          all="Choose one"
          onChange={(id) => id && onChange([...rows, { model_id: id, spend_cap_window: "lifetime" }])}
        />
      )}
    </fieldset>
  );
}
