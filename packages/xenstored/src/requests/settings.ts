import { XsOp } from '@xenpv/xenstore';
import { type Answer, type Call, failure, OK, type Operation, type RequestHost, strings } from '../connection/call.js';
import { type MutableQuotas, QUOTA_NAMES, quotaKey } from '../connection/limits.js';
import { looseDomid, looseNumber } from '../tree/numbers.js';
import { control } from './control.js';

/** Requests about the daemon itself, by their type. */
export const settingsOperations: Record<number, Operation> = {
  [XsOp.control]: { handle: controlDaemon, privileged: true },
  [XsOp.getFeature]: { handle: getFeature, optional: true },
  [XsOp.setFeature]: { handle: setFeature, privileged: true, optional: true },
  [XsOp.getQuota]: { handle: getQuota, privileged: true, optional: true },
  [XsOp.setQuota]: { handle: setQuota, privileged: true, optional: true },
};

/** command|arguments|* */
function controlDaemon(call: Call): Answer {
  const { quotas, domains } = call.host;
  return control({ quotas, domains }, strings(call.payload));
}

/** [domid|] → features| of this daemon, or those that a domain is shown. */
function getFeature(call: Call): Answer {
  const { host, connection } = call;
  const words = strings(call.payload);
  if (words.length === 0) return `${connection.domain.features}\0`;
  if (!connection.domain.privileged) return failure('EACCES');
  if (words.length > 1) return failure('EINVAL');
  const domain = host.domains.open(looseDomid(words[0]));
  return domain === undefined ? failure('ENOENT') : `${domain.features}\0`;
}

/** domid|features|, before the domain is introduced. */
function setFeature(call: Call): Answer {
  const { host } = call;
  const [domid, features, ...more] = strings(call.payload);
  if (domid === undefined || features === undefined || more.length > 0) return failure('EINVAL');
  const domain = host.domains.open(looseDomid(domid));
  if (domain === undefined) return failure('ENOENT');
  if (domain.introduced) return failure('EBUSY');
  const bits = looseNumber(features);
  if (bits & ~host.features) return failure('EINVAL');
  domain.features = bits;
  return OK;
}

/** The limits that a request is about: those of a domain where one is named, else the common ones. */
function namedQuotas(host: RequestHost, domid: string | undefined): MutableQuotas | undefined {
  return domid === undefined ? host.quotas : host.domains.open(looseDomid(domid))?.quotas;
}

/** [[domid|]quota|] → value|, or the names of all quotas. 0 stands for no limit. */
function getQuota(call: Call): Answer {
  const words = strings(call.payload);
  if (words.length === 0) return `${QUOTA_NAMES.map((quota) => quota.name).join(' ')}\0`;
  if (words.length > 2) return failure('EINVAL');
  const quotas = namedQuotas(call.host, words.length === 2 ? words[0] : undefined);
  if (quotas === undefined) return failure('ENOENT');
  const key = quotaKey(words[words.length - 1]);
  if (key === undefined) return failure('EINVAL');
  return `${Number.isFinite(quotas[key]) ? quotas[key] : 0}\0`;
}

/** [domid|]quota|value|; 0 for no limit. */
function setQuota(call: Call): Answer {
  const words = strings(call.payload);
  if (words.length < 2 || words.length > 3) return failure('EINVAL');
  const quotas = namedQuotas(call.host, words.length === 3 ? words[0] : undefined);
  if (quotas === undefined) return failure('ENOENT');
  const key = quotaKey(words[words.length - 2]);
  const value = looseNumber(words[words.length - 1]);
  if (key === undefined || value < 0) return failure('EINVAL');
  quotas[key] = value === 0 ? Number.POSITIVE_INFINITY : value;
  return OK;
}
