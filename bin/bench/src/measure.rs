//! What processes use, as the kernel counts it.

use std::fs;
use std::io;

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
