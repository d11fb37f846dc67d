import { QmpClient, type QmpClientOptions } from '@xenpv/qmp';

/** No answer of a monitor that is asked for here is longer. */
const MOST_CHARACTERS = 1 << 20;

/** Talks to the monitor of a helper, which has one client at a time. Rejects as QmpClient.connect does. */
export function openMonitor(path: string, options: Pick<QmpClientOptions, 'answerMs' | 'signal'>): Promise<QmpClient> {
  return QmpClient.connect(path, { ...options, mostCharacters: MOST_CHARACTERS });
}
