/** For staff: the forms of a provider's credentials. A credential is written here and never read. */
import type { Schemas } from "../api/client";
import { useAddCredential, useCredential } from "../api/operator";
import { Field } from "./controls";
import { Asking } from "./operator-frame";

type Provider = Schemas["ProviderOut"];
type Credential = Schemas["CredentialOut"];
export type About = { provider: Provider; credential: Credential };

export const IN_FORCE = "In force in every gateway within a second.";
export const nameOf = (credential: Credential) => credential.label || "Default";

const whole = (text: string, otherwise: number) => (/^\d+$/.test(text) ? Number(text) : otherwise);

function Shares({ priority = 0, weight = 1 }: { priority?: number; weight?: number }) {
  return (
    <div className="grid gap-3 sm:grid-cols-2">
      <Field name="priority" label="Priority" inputMode="numeric" pattern="\d{1,3}" defaultValue={String(priority)} hint="Lowest first; higher ones where these fail. 0 to 100." />
      <Field name="weight" label="Weight" inputMode="numeric" pattern="\d{1,4}" defaultValue={String(weight)} hint="Its share beside those of the same priority. 1 to 1000." />
    </div>
  );
}

export function AddCredential({ provider, onClose }: { provider: Provider; onClose: () => void }) {
  const add = useAddCredential(provider.provider_id);
  return (
    <Asking
      title={`A credential for ${provider.name}`}
      about={`It is stored encrypted and not shown again, here or anywhere. ${IN_FORCE}`}
      action="Store"
      error={add.error}
      isPending={add.isPending}
      onClose={onClose}
      onSubmit={(text) =>
        add.mutate(
          {
            label: text("label"),
            credential: text("credential"),
            priority: whole(text("priority"), 0),
            weight: whole(text("weight"), 1),
          },
          { onSuccess: onClose },
        )
      }
    >
      <Field name="label" label="Label" hint="Tells it from the others, for instance who pays for it." isRequired maxLength={60} autoFocus />
      <Field name="credential" type="password" label="Credential" autoComplete="off" isRequired />
      <Shares />
    </Asking>
  );
}

export function RotateCredential({ provider, credential, onClose }: About & { onClose: () => void }) {
  const { rotate } = useCredential(provider.provider_id, credential.credential_id);
  return (
    <Asking
      title={`Rotate ${nameOf(credential)} of ${provider.name}`}
      about={`The new one takes its place and is not shown again. ${IN_FORCE} Withdraw the old one at the provider after that.`}
      action="Store"
      error={rotate.error}
      isPending={rotate.isPending}
      onClose={onClose}
      onSubmit={(text) => rotate.mutate(text("credential"), { onSuccess: onClose })}
    >
      <Field name="credential" type="password" label="Credential" autoComplete="off" isRequired autoFocus />
    </Asking>
  );
}

export function EditCredential({ provider, credential, onClose }: About & { onClose: () => void }) {
  const { change } = useCredential(provider.provider_id, credential.credential_id);
  return (
    <Asking
      title={`${nameOf(credential)} of ${provider.name}`}
      about={IN_FORCE}
      action="Save"
      error={change.error}
      isPending={change.isPending}
      onClose={onClose}
      onSubmit={(text) =>
        change.mutate(
          {
            label: text("label"),
            priority: whole(text("priority"), 0),
            weight: whole(text("weight"), 1),
            enabled: credential.enabled,
          },
          { onSuccess: onClose },
        )
      }
    >
      <Field name="label" label="Label" defaultValue={credential.label} isRequired={credential.credential_id !== "default"} maxLength={60} autoFocus />
      <Shares priority={credential.priority} weight={credential.weight} />
    </Asking>
  );
}

export function RemoveCredential({ provider, credential, onClose }: About & { onClose: () => void }) {
  const { remove } = useCredential(provider.provider_id, credential.credential_id);
  const last = provider.credentials.filter((one) => one.enabled).length <= 1 && credential.enabled;
  return (
    <Asking
      title={`Remove ${nameOf(credential)} of ${provider.name}`}
      about={
        last && provider.credential_required
          ? "It is the only one in use: the provider's models are no longer served, from the next second on. Requests under way go on."
          : "No request uses it from the next second on. Requests under way go on."
      }
      action="Remove"
      danger
      error={remove.error}
      isPending={remove.isPending}
      onClose={onClose}
      onSubmit={() => remove.mutate(undefined, { onSuccess: onClose })}
    />
  );
}
