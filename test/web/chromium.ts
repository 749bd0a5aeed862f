import { existsSync } from "node:fs";
import { type Browser, chromium } from "playwright-core";

/** Where Debian and others put it. */
const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The installed Chromium; undefined where there is none. */
export const chromiumPath = PLACES.find((path) => existsSync(path));

/** Starts it with a fresh profile, without a network of its own, and with a microphone that plays `soundFile` over and over. */
export function launchChromium(soundFile: string): Promise<Browser> {
  return chromium.launch({
    executablePath: chromiumPath!,
    timeout: 120_000,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--use-fake-ui-for-media-stream",
      "--use-fake-device-for-media-stream",
      `--use-file-for-fake-audio-capture=${soundFile}`,
    ],
  });
}
