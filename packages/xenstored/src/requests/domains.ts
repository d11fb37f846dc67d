import { DOMID_SELF } from '@xenpv/xen-sys';
import { XsOp } from '@xenpv/xenstore';
import {
  type Answer,
  type Call,
  done,
  failure,
  OK,
  type Operation,
  oneString,
  type RequestHost,
  strings,
} from '../connection/call.js';
import type { DomainRecord } from '../connection/domains.js';
import { looseDomid, looseNumber } from '../tree/numbers.js';
import type { ErrnoName } from '../tree/store.js';

/** Requests about domains, by their type. */
export const domainOperations: Record<number, Operation> = {
  [XsOp.introduce]: { handle: introduce, privileged: true },
  [XsOp.release]: { handle: release, privileged: true },
  [XsOp.resume]: { handle: resume, privileged: true },
  [XsOp.setTarget]: { handle: setTarget, privileged: true },
  [XsOp.isDomainIntroduced]: { handle: isDomainIntroduced, privileged: true },
  [XsOp.getDomainPath]: { handle: getDomainPath },
};

function getDomainPath(call: Call): Answer {
  const word = oneString(call.payload);
  return word === undefined ? failure('EINVAL') : `/local/domain/${looseDomid(word)}\0`;
}

/** domid|gfn|event channel| */
function introduce(call: Call): Answer {
  const [domid, , port] = strings(call.payload);
  if (domid === undefined || port === undefined || looseNumber(port) <= 0) return failure('EINVAL');
  return done(call.host.introduce(looseDomid(domid), looseNumber(port)));
}

/** The domain that a request of one number is about; it must have been introduced. */
function namedDomain(call: Call): DomainRecord | ErrnoName {
  const word = oneString(call.payload);
  const domid = word === undefined ? 0 : looseDomid(word);
  if (domid === 0) return 'EINVAL';
  return introduced(call.host, domid) ?? 'ENOENT';
}

function introduced(host: RequestHost, domid: number): DomainRecord | undefined {
  const domain = host.domains.get(domid);
  return domain?.introduced ? domain : undefined;
}

function release(call: Call): Answer {
  const domain = namedDomain(call);
  if (typeof domain === 'string') return failure(domain);
  call.host.release(domain);
  return OK;
}

function resume(call: Call): Answer {
  const domain = namedDomain(call);
  if (typeof domain === 'string') return failure(domain);
  domain.shutDown = false;
  return OK;
}

function isDomainIntroduced(call: Call): Answer {
  const word = oneString(call.payload);
  if (word === undefined) return failure('EINVAL');
  const domid = looseDomid(word);
  return domid === DOMID_SELF || introduced(call.host, domid) !== undefined ? 'T\0' : 'F\0';
}

/** domid|target|: the first may do all that the second may. */
function setTarget(call: Call): Answer {
  const [domid, target] = strings(call.payload);
  if (domid === undefined || target === undefined) return failure('EINVAL');
  const domain = introduced(call.host, looseDomid(domid));
  const served = introduced(call.host, looseDomid(target));
  if (domain === undefined || served === undefined) return failure('ENOENT');
  domain.target = served.domid;
  return OK;
}
