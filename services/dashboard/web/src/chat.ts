/** One chat completion through the panel's server, read as it streams. */
import { ApiError, csrfHeader } from "./api/client";

export type ChatMessage = { role: "system" | "user" | "assistant"; content: string };
export type Parameters = { temperature?: number; max_tokens?: number; top_p?: number };
export type ChatBody = { model?: string; messages: ChatMessage[] } & Parameters & Record<string, unknown>;

export type Answer = {
  text: string;
  requestId: string;
  finishReason: string;
  usage: { prompt_tokens: number; completion_tokens: number } | null;
  /** From the sending; 0 until there is one. */
  firstTokenMs: number;
  totalMs: number;
  done: boolean;
};

type Frame = {
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  usage?: Answer["usage"];
  error?: { code: string; message: string };
  request_id?: string;
};

/** The answer with one more frame in it. Throws the error that a frame says. */
function folded(answer: Answer, frame: Frame, elapsedMs: number): Answer {
  if (frame.error) throw new ApiError(200, frame.error.code, frame.error.message, answer.requestId);
  const choice = frame.choices?.[0];
  const piece = choice?.delta?.content ?? "";
  return {
    ...answer,
    text: answer.text + piece,
    finishReason: choice?.finish_reason ?? answer.finishReason,
    usage: frame.usage ?? answer.usage,
    firstTokenMs: answer.firstTokenMs || (piece ? elapsedMs : 0),
  };
}

async function refusal(response: Response): Promise<ApiError> {
  try {
    const body = await response.json();
    return new ApiError(response.status, body.error.code, body.error.message, body.request_id);
  } catch {
    return new ApiError(response.status, "unreachable", "The gateway did not answer.", "");
  }
}

/** Sends the request and tells of the answer as it grows; resolves with the whole of it. */
export async function streamChat(
  body: ChatBody,
  { signal, onChange }: { signal: AbortSignal; onChange: (answer: Answer) => void },
): Promise<Answer> {
  const started = performance.now();
  const elapsed = () => Math.round(performance.now() - started);
  const response = await fetch("/api/playground/chat", {
    method: "POST",
    headers: { "content-type": "application/json", ...csrfHeader() },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!response.ok || !response.body) throw await refusal(response);
  let answer: Answer = {
    text: "",
    requestId: response.headers.get("x-mesh-request-id") ?? response.headers.get("x-request-id") ?? "",
    finishReason: "",
    usage: null,
    firstTokenMs: 0,
    totalMs: 0,
    done: false,
  };
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const events = (rest + value).split("\n\n");
    rest = events.pop() ?? "";
    for (const event of events) {
      const data = event.startsWith("data: ") ? event.slice(6) : "";
      if (data && data !== "[DONE]") answer = folded(answer, JSON.parse(data) as Frame, elapsed());
    }
    onChange(answer);
  }
  answer = { ...answer, totalMs: elapsed(), done: true };
  onChange(answer);
  return answer;
}
