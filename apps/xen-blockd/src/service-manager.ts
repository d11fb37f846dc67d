import { BlockdError } from './errors.js';
import { findTool, runTool } from './tools.js';

/**
 * Tells systemd (or who else set NOTIFY_SOCKET) that the service is ready, or stops. Node has no datagram sockets of
 * the Unix kind, so systemd's own program does it; it resolves at once where nobody listens.
 */
export async function notifyServiceManager(state: 'ready' | 'stopping'): Promise<void> {
  if (!process.env.NOTIFY_SOCKET) return;
  if (!findTool('systemd-notify')) throw new BlockdError('ERR_TOOL', 'systemd-notify is not there; use Type=exec');
  const { code, stderr } = await runTool('systemd-notify', [`--pid=${process.pid}`, `--${state}`]);
  if (code !== 0) throw new BlockdError('ERR_TOOL', `systemd-notify ended with ${code}: ${stderr.trim()}`);
}
