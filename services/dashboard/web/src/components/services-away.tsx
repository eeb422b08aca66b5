/** The services that did not answer: what is shown is without them. */
import type { Schemas } from "../api/client";

export function Away({ services }: { services: Schemas["ServiceAway"][] }) {
  if (!services.length) return null;
  return (
    <p role="alert" className="m-4 rounded-lg bg-warn-soft p-3 text-warn">
      {services.map((one) => `The service ${one.service} does not answer: ${one.message}`).join(" ")}
    </p>
  );
}
