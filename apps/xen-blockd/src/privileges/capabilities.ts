/** By their numbers, as linux/capability.h has them. */
const NAMES = [
  ...['chown', 'dac_override', 'dac_read_search', 'fowner', 'fsetid', 'kill', 'setgid', 'setuid', 'setpcap'],
  ...['linux_immutable', 'net_bind_service', 'net_broadcast', 'net_admin', 'net_raw', 'ipc_lock', 'ipc_owner'],
  ...['sys_module', 'sys_rawio', 'sys_chroot', 'sys_ptrace', 'sys_pacct', 'sys_admin', 'sys_boot', 'sys_nice'],
  ...['sys_resource', 'sys_time', 'sys_tty_config', 'mknod', 'lease', 'audit_write', 'audit_control', 'setfcap'],
  ...['mac_override', 'mac_admin', 'syslog', 'wake_alarm', 'block_suspend', 'audit_read', 'perfmon', 'bpf'],
  'checkpoint_restore',
] as const;

/** Those that a daemon uses, as its unit has them. */
export const USED: ReadonlySet<string> = new Set([
  ...['sys_admin', 'sys_chroot', 'setuid', 'setgid', 'setpcap', 'dac_override', 'kill'],
]);

/** The names of a set as /proc has it: 16 hexadecimal digits. One that is newer than this list is `cap_41`. */
export function capabilityNames(hexadecimal: string): string[] {
  const names: string[] = [];
  for (let set = BigInt(`0x${hexadecimal}`), bit = 0; set > 0n; set >>= 1n, bit++) {
    if (set & 1n) names.push(NAMES[bit] ?? `cap_${bit}`);
  }
  return names;
}
