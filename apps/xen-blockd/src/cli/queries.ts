import type { Command } from 'commander';
import { addAttach, addDetach } from './changes/attach.js';
import { addBackup } from './changes/backup.js';
import { addCommit } from './changes/commit.js';
import { addFlatten } from './changes/flatten.js';
import { addEject, addInsert } from './changes/medium.js';
import { addPause, addUnpause } from './changes/pause.js';
import { addRefresh } from './changes/refresh.js';
import { addResize } from './changes/resize.js';
import { addResume } from './changes/resume.js';
import { addSnapshot } from './changes/snapshot.js';
import { addThrottle } from './changes/throttle.js';
import { addList, addStats } from './queries/list.js';
import { addShow } from './queries/show.js';
import { addStatus } from './queries/status.js';
import { addTop } from './queries/top.js';
import { addTrace } from './trace/trace.js';
import { addUpgrade } from './upgrade/upgrade.js';

/** The commands of `xen-blockd` that ask a running daemon; `ended` gets the exit code of those that have more than one. */
export function addQueries(program: Command, ended: (code: number) => void): void {
  addStatus(program, ended);
  addList(program);
  addShow(program);
  addStats(program);
  addTop(program);
  addRefresh(program);
  addResize(program);
  addSnapshot(program);
  addFlatten(program);
  addCommit(program);
  addBackup(program);
  addEject(program);
  addInsert(program);
  addResume(program);
  addPause(program);
  addUnpause(program);
  addThrottle(program);
  addTrace(program);
  addAttach(program);
  addDetach(program);
  addUpgrade(program, ended);
}
