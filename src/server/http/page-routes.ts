import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import type { App } from "./app.ts";

/** All pages there are: where they are served, and their content. No path of a client's is ever looked up on disk. */
const pages = [
  { url: "/", file: "index.html", type: "text/html; charset=utf-8" },
  { url: "/app.js", file: "app.js", type: "text/javascript; charset=utf-8" },
  { url: "/app.css", file: "app.css", type: "text/css; charset=utf-8" },
  { url: "/microphone.js", file: "microphone.js", type: "text/javascript; charset=utf-8" },
  { url: "/icon.svg", file: "icon.svg", type: "image/svg+xml" },
] as const;

/** Scripts, styles and connections of this server only; the microphone for its own pages. */
const headers = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "permissions-policy": "microphone=(self), camera=(), geolocation=()",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cache-control": "no-cache",
} as const;

/** Adds the playground and dashboard at `/`, where they were built. */
export function addPageRoutes(app: App): void {
  for (const { url, file, type } of pages) {
    const path = pageFile(file);
    if (!existsSync(path)) continue;
    const content = readFileSync(path);
    const etag = `"${createHash("sha256").update(content).digest("base64url").slice(0, 22)}"`;
    // Open to all, whatever keys the server asks for: a page says nothing, and asks for the key itself.
    app.get(url, { schema: { hide: true }, config: { isOpen: true } }, (request, reply) => {
      reply.headers({ ...headers, etag });
      if (request.headers["if-none-match"] === etag) return reply.code(304).send();
      return reply.type(type).send(content);
    });
  }
}

/** A file of the built pages: beside this built file, or in `dist` where this runs from source. */
function pageFile(file: string): URL {
  const isSource = import.meta.url.endsWith(".ts");
  return new URL(`${isSource ? "../../../dist/web" : "../../../web"}/${file}`, import.meta.url);
}
