import { QmpClient, QmpError } from '@xenpv/qmp';
import { BlockdError, errorCode } from '../errors.js';
import type { DeviceStatus } from '../status/device-status.js';

/** A command of the daemon that answers with disks. */
export interface DiskRequest {
  readonly command: string;
  readonly args?: Readonly<Record<string, unknown>>;
  /** Milliseconds for the answer. */
  readonly answerMs?: number | undefined;
}

/** Asking the storage may take a while. */
const ANSWER_MS = 60_000;

/** Asks the daemon that listens on `path`. Error: ERR_SOCKET if there is no daemon, or with the daemon's own words. */
export async function askDaemon(
  path: string,
  { command, args, answerMs = ANSWER_MS }: DiskRequest,
): Promise<readonly DeviceStatus[]> {
  let client: QmpClient | undefined;
  try {
    client = await QmpClient.connect(path, { answerMs });
    return (await client.execute(command, args)) as readonly DeviceStatus[];
  } catch (error) {
    throw new BlockdError('ERR_SOCKET', 'ask daemon', messageOf(path, error), { path, cause: error });
  } finally {
    client?.close();
  }
}

function messageOf(path: string, error: unknown): string {
  if (!(error instanceof QmpError)) return `socket ${path}: ${adviceOf(errorCode(error))}`;
  const { code, message } = error;
  if (code === 'ERR_COMMAND') return `the daemon answers: ${message}`;
  if (code === 'ERR_ENDED') return `socket ${path}: the daemon closed the connection`;
  if (code === 'ERR_TIMEOUT')
    return `socket ${path}: the daemon does not answer; see its log, journalctl -u xen-blockd`;
  return `socket ${path}: what answers there is no xen-blockd of this version: ${message}`;
}

function adviceOf(code: string | undefined): string {
  if (code === 'EACCES') return 'no permission; run this as the user of the daemon';
  return `no daemon answers there (${code}); start it with systemctl start xen-blockd, or name its socket`;
}
