import { memoryImage, nullImage } from '@xenpv/blockdev';
import { BenchHost, mainThreadSeconds } from './embedded/host.js';
const op = (process.argv[2] ?? 'flush') as 'flush';
const depth = Number(process.argv[3] ?? 32);
const bs = Number(process.argv[4] ?? 4096);
const host = await BenchHost.start((t) => (t === 'memory' ? memoryImage({ size: 64 << 20 }) : nullImage({ size: 1 << 30 })));
const victim = await host.startGuest(32);
await victim.connect(1, { ringPageOrder: 0 });
const job = { operation: 'read', blockSize: 4096, depth: 1, blocking: true, latency: true, random: true } as const;
await victim.load({ ...job, requests: 2000 });
const show = async (name: string) => {
  const stats = () => [...host.backend.devices].map((d) => d.statistics());
  const b = stats();
  const c = mainThreadSeconds();
  const t = performance.now();
  const elu = performance.eventLoopUtilization();
  const { latency } = await victim.load({ ...job, requests: 10000 });
  const e = performance.eventLoopUtilization(elu);
  const s = (performance.now() - t) / 1000;
  const a = stats();
  console.log(name, 'p50', latency!.p50.toFixed(0), 'p99', latency!.p99.toFixed(0), 'cpu', ((mainThreadSeconds() - c) / s).toFixed(2), 'elu', e.utilization.toFixed(2));
  for (const i of a.keys()) {
    const ops = (x: any) => x.read.operations + x.write.operations + x.flush.operations + x.discard.operations;
    console.log('  disk', i, 'ops/s', ((ops(a[i]) - ops(b[i])) / s).toFixed(0), 'per pass', ((ops(a[i]) - ops(b[i])) / (a[i].passes - b[i].passes)).toFixed(1), 'events/s', ((a[i].events - b[i].events) / s).toFixed(0), 'notif/s', ((a[i].notifications - b[i].notifications) / s).toFixed(0));
  }
};
await show('alone');
const guest = await host.startGuest(64);
await guest.connect(1, { ringPageOrder: 2, maxIndirectSegments: 256, poolPages: 10_240 }, op === 'flush' ? 'disk' : 'memory');
await guest.begin({ operation: op, blockSize: bs, depth });
await show('beside');
process.exit();
