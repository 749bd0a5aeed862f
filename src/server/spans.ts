import type { Context, Span, SpanContext, Tracer } from "@opentelemetry/api";
import type { Served, Statistics } from "./oip/statistics.ts";

type Api = typeof import("@opentelemetry/api");

/**
 * Makes spans of requests, where the process has registered a tracer provider: `infer MODEL` for each, with `queue` and
 * `compute` within. They are made when a request has ended, with the times that were counted anyway. Does nothing where
 * `@opentelemetry/api` is not installed or nobody registered a provider.
 */
export async function addSpans(statistics: Statistics, version: string): Promise<void> {
  const api = await import("@opentelemetry/api").catch(() => undefined);
  const provider = api?.trace.getTracerProvider();
  // The API's own provider stands in for one that may come; only it can tell whether one has come.
  const tracer =
    provider && "getDelegateTracer" in provider
      ? (provider as InstanceType<Api["ProxyTracerProvider"]>).getDelegateTracer("cellbatch", version)
      : provider?.getTracer("cellbatch", version);
  if (!api || !tracer) return;
  statistics.trace((traceparent) => parentOf(api, traceparent));
  statistics.observe((model, served) => tell(api, tracer, model, served));
}

/** The span around the request: of an instrumentation in this process, else of the client that sent a `traceparent`. */
function parentOf({ trace, context, ROOT_CONTEXT }: Api, traceparent: string | undefined): Context {
  const active = context.active();
  const remote = traceparent === undefined ? undefined : spanContextOf(traceparent);
  if (trace.getSpan(active) || !remote) return active;
  return trace.setSpanContext(ROOT_CONTEXT, remote);
}

/** A `traceparent` of W3C Trace Context, level 1; undefined where it is malformed, which is then ignored as the standard says. */
export function spanContextOf(traceparent: string): SpanContext | undefined {
  const found = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(traceparent.trim());
  if (!found) return undefined;
  const [, version, traceId, spanId, flags, more] = found;
  const isZero = /^0+$/.test(traceId!) || /^0+$/.test(spanId!);
  if (version === "ff" || isZero || (version === "00" && more !== undefined)) return undefined;
  return { traceId: traceId!, spanId: spanId!, traceFlags: Number.parseInt(flags!, 16) & 1, isRemote: true };
}

function tell(api: Api, tracer: Tracer, model: string, served: Served): void {
  const { code, totalMs, queueMs, computeMs, cells } = served;
  const endMs = Date.now();
  const startMs = endMs - totalMs;
  const parent = (served.parent as Context | undefined) ?? api.ROOT_CONTEXT;
  const span: Span = tracer.startSpan(
    `infer ${model}`,
    {
      kind: api.SpanKind.SERVER,
      startTime: new Date(startMs),
      attributes: { "cellbatch.model": model, "cellbatch.code": code, "cellbatch.cells": cells },
    },
    parent,
  );
  if (code === "OK") {
    const within = api.trace.setSpan(parent, span);
    const child = (name: string, fromMs: number, toMs: number) =>
      tracer.startSpan(name, { startTime: new Date(fromMs) }, within).end(new Date(toMs));
    child("queue", startMs, startMs + queueMs);
    child("compute", startMs + queueMs, Math.min(endMs, startMs + queueMs + computeMs));
  } else span.setStatus({ code: api.SpanStatusCode.ERROR, message: code });
  span.end(new Date(endMs));
}
