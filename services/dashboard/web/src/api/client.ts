/** The typed client of the panel's API, and errors as sentences with their request id. */
import createClient, { type Middleware } from "openapi-fetch";

import type { components, paths } from "./generated";

export type Schemas = components["schemas"];

/** What the server refused, and the request id by which it can be found. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly requestId: string,
  ) {
    super(message);
  }
}

let csrfToken = "";

/** Remembers the CSRF token of the session that was just started or found. */
export function rememberSession(session: Schemas["SessionOut"]): Schemas["SessionOut"] {
  csrfToken = session.csrf_token;
  return session;
}

/** What an unsafe request carries that is not sent by the typed client. */
export function csrfHeader(): Record<string, string> {
  return csrfToken ? { "x-mesh-csrf": csrfToken } : {};
}

async function errorOf(response: Response): Promise<ApiError> {
  try {
    const body = await response.clone().json();
    return new ApiError(response.status, body.error.code, body.error.message, body.request_id);
  } catch {
    return new ApiError(response.status, "unreachable", "The panel's server did not answer.", "");
  }
}

const guard: Middleware = {
  onRequest({ request }) {
    if (csrfToken) request.headers.set("x-mesh-csrf", csrfToken);
    return request;
  },
  async onResponse({ response }) {
    if (!response.ok) throw await errorOf(response);
    return response;
  },
};

export const api = createClient<paths>({ baseUrl: "/" });
api.use(guard);

/** The body of an answer; there is one, since everything else was thrown. */
export function bodyOf<T>(answer: { data?: T }): T {
  if (answer.data === undefined) throw new ApiError(0, "empty", "The answer was empty.", "");
  return answer.data;
}
