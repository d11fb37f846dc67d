import { parentPort, workerData } from 'node:worker_threads';

const { module, data } = workerData;
const provider = await (await import(module)).attachProvider(data);
try {
  provider.openGrantTable().close();
  parentPort.postMessage('opened');
} catch (error) {
  parentPort.postMessage(error.code);
}
