/** What may be set on a key; one form creates and changes. */
import { useQuery } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";

import type { Schemas } from "../api/client";
import { teamsQuery } from "../api/limits";
import { modelsQuery, useChangeKey, useCreateKey } from "../api/queries";
import { localTime } from "../format";
import { Button, Choice, Field } from "./controls";
import { ErrorNote } from "./feedback";
import { CapFields, limitsOf, RateFields } from "./limit-fields";
import { ModelLimits } from "./model-limits";

type Row = Schemas["KeyOut"];
type PerModel = Schemas["ModelLimitsIn"];
function settingsOf(form: FormData, perModel: PerModel[]): Schemas["KeySettingsIn"] {
  const text = (name: string) => String(form.get(name) ?? "").trim();
  const expires = text("expires");
  return {
    label: text("label"),
    ...limitsOf(form),
    team_id: text("team"),
    default_model: text("model"),
    default_params_json: text("params"),
    allowed_models: text("allowed").split(/[\s,]+/).filter(Boolean),
    model_limits: perModel,
    content_stored: text("content") === "yes",
    expires_at_ms: expires === "" ? 0 : new Date(expires).getTime(),
  };
}

function More({ row }: { row: Row | undefined }) {
  return (
    <>
      <RateFields limits={row} />
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
      <Choice
        label="Prompts and answers, which are stored only where the operator allows it"
        name="content"
        value={row?.content_stored ? "yes" : "no"}
        options={[["no", "Are not stored"], ["yes", "Are stored, for owners and admins to read"]]}
        all={null}
      />
      <Field name="expires" type="datetime-local" label="Expires" hint="Empty: never." defaultValue={row?.expires_at ? localTime(row.expires_at) : ""} />
    </>
  );
}

export function KeyForm({ row, onClose, onMade }: { row?: Row; onClose: () => void; onMade?: (secret: string) => void }) {
  const create = useCreateKey();
  const change = useChangeKey();
  const models = useQuery(modelsQuery);
  const teams = useQuery(teamsQuery);
  const [perModel, setPerModel] = useState<PerModel[]>((row?.model_limits ?? []) as PerModel[]);
  const [more, setMore] = useState(row !== undefined);
  const busy = create.isPending || change.isPending;
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const body = settingsOf(new FormData(event.currentTarget), perModel);
    if (row) change.mutate({ keyId: row.key_id, body }, { onSuccess: onClose });
    else create.mutate(body, { onSuccess: (made) => onMade?.(made.secret) });
  };
  return (
    <form className="space-y-4" onSubmit={submit}>
      <ErrorNote error={create.error ?? change.error} />
      <Field name="label" label="Label" isRequired autoFocus maxLength={100} defaultValue={row?.label ?? ""} />
      <CapFields limits={row} />
      <Choice
        label="Default model"
        name="model"
        value={row?.default_model ?? ""}
        options={(models.data ?? []).map((one) => [one.model_id, one.model_id])}
        all="None: each request names one"
      />
      <Choice
        key={String(teams.isSuccess)}
        label="Team"
        name="team"
        value={row?.team_id ?? ""}
        // The key's own team is offered even where the teams are not known, so that saving keeps it.
        options={
          teams.data?.map((one) => [one.team_id, one.name] as const) ??
          (row?.team_id ? [[row.team_id, row.team_id] as const] : [])
        }
        all="None"
      />
      {more && <ModelLimits rows={perModel} models={(models.data ?? []).map((one) => one.model_id)} onChange={setPerModel} />}
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
