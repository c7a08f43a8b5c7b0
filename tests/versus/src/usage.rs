//! What a process has used so far.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A snapshot of one process, or the difference of two.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU time, user and system, of all threads, in nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Bytes on the heap now.
    pub(crate) live: i64,
    /// Resident bytes now; 0 where the system does not tell.
    pub(crate) resident: i64,
    /// Allocations, reallocations among them.
    pub(crate) allocations: u64,
    /// Bytes of these.
    pub(crate) allocated: u64,
}

impl Usage {
    /// This process, now.
    pub(crate) fn now() -> Self {
        let (live, allocations, allocated) = crate::alloc::counts();
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Self {
            cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
            live: live as i64,
            resident: resident().unwrap_or(0),
            allocations,
            allocated,
        }
    }

    /// What was used since `before`.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns - before.cpu_ns,
            live: self.live - before.live,
            resident: self.resident - before.resident,
            allocations: self.allocations - before.allocations,
            allocated: self.allocated - before.allocated,
        }
    }
}

fn resident() -> Option<i64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}
