/** Watches, waiting and transactions on an emulated xenstored; `XenstoreClient.connect()` uses the machine's own. */
import { XenstoreClient } from '@xenpv/xenstore';
import { EmulatedXenstored } from '@xenpv/xenstored';

const xenstored = new EmulatedXenstored();
const store = XenstoreClient.open(xenstored.connect(0));

const watch = await store.watch('/tool/counter');
const ready = store.waitFor(async (ops) => ((await ops.tryRead('/tool/counter')) === '3' ? 'three' : undefined));
for (let i = 0; i < 3; i++) {
  await store.transaction(async (tx) => {
    const now = Number((await tx.tryRead('/tool/counter')) ?? 0);
    await tx.write('/tool/counter', now + 1);
  });
}
console.log(`counted to ${await ready}`);
for await (const { path } of watch) {
  console.log(`${path} is ${await store.read(path)}`);
  break;
}
await store.close();
await xenstored.close();
