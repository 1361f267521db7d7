//! What processes use, as the kernel counts it.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Ticks per second in /proc: the kernel's USER_HZ, the same on x86, ARM and RISC-V.
const USER_HZ: f64 = 100.0;

/// User and system time of a process since its start, in seconds; all its threads together.
pub(crate) fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // proc(5): behind the name, which may hold anything, `utime` and `stime` are the 12th and 13th field, in ticks.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(ticks as f64 / USER_HZ)
}

/// Memory that a process has in use now, and the most that it ever had, in MiB.
pub(crate) fn memory_mib(pid: u32) -> io::Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
    };
    field("VmRSS:").zip(field("VmHWM:")).ok_or_else(|| io::Error::other("no VmRSS in /proc/*/status"))
}

/// Allows as many open files as an administrator has set.
pub(crate) fn raise_file_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
