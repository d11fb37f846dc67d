import { working } from '@xenpv/test-support';

/** Tests with a cluster or a server of their own take minutes: `npm test` leaves them to a command. */
export const commanded = working('npm run test:ceph', () => {
  if (process.env.CEPH_KILLS === undefined) throw new Error('not asked for');
});
