import type { Command } from 'commander';
import { addAttach, addDetach } from './queries/attach.js';
import { addList, addStats } from './queries/list.js';
import { addEject, addInsert } from './queries/medium.js';
import { addPause, addUnpause } from './queries/pause.js';
import { addRefresh } from './queries/refresh.js';
import { addResize } from './queries/resize.js';
import { addResume } from './queries/resume.js';
import { addShow } from './queries/show.js';
import { addStatus } from './queries/status.js';
import { addThrottle } from './queries/throttle.js';
import { addTop } from './queries/top.js';

/** The commands of `xen-blockd` that ask a running daemon; `ended` gets the exit code of those that have more than one. */
export function addQueries(program: Command, ended: (code: number) => void): void {
  addStatus(program, ended);
  addList(program);
  addShow(program);
  addStats(program);
  addTop(program);
  addRefresh(program);
  addResize(program);
  addEject(program);
  addInsert(program);
  addResume(program);
  addPause(program);
  addUnpause(program);
  addThrottle(program);
  addAttach(program);
  addDetach(program);
}
