import { type Browser, chromium } from 'playwright-core';

/** Debian's Chromium without a window, and without what it asks of the network by itself. */
export function startChromium(executablePath: string): Promise<Browser> {
  const quiet = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
  const args = ['--no-sandbox', '--disable-gpu', '--no-first-run', ...quiet];
  // A daemon in the test's process is stopped by an event of that name, which is not for the browser.
  const signals = { handleSIGINT: false, handleSIGTERM: false, handleSIGHUP: false };
  return chromium.launch({ executablePath, args, ...signals });
}
