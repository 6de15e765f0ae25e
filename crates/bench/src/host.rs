//! What the kernel says of a process and of this machine. Invariant: reads /proc, and says nothing rather than something wrong.

use std::fs;
use std::time::Duration;

/// A process as it stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    pub(crate) rss: u64,
    pub(crate) peak: u64,
}

/// `None` when there is no such process.
pub(crate) fn usage(pid: u32) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Usage {
        cpu: cpu_of(&stat)?,
        rss: kib_of(&status, "VmRSS:")? * 1024,
        peak: kib_of(&status, "VmHWM:")? * 1024,
    })
}

/// utime and stime, the 14th and 15th field of all, in ticks of 10 ms (`proc_pid_stat(5)`); the name before them may hold anything.
fn cpu_of(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * 10))
}

fn kib_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// One line, for the head of a report.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown processor", |model| {
        model.trim_start_matches(['\t', ' ', ':'])
    });
    let memory = kib_of(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) / (1024 * 1024);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({model}), {memory} GiB, kernel {}", kernel.trim())
}

/// The load of the last minute: whoever reads a figure should know who else was at work.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let stat = "7 (a) R 9 9 9 9) S 1 7 7 0 -1 0 1 2 3 4 150 25 0 0 20 0 1 0";
        assert_eq!(cpu_of(stat), Some(Duration::from_millis(1750)));
        assert_eq!(cpu_of("7 (a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let own = usage(std::process::id()).unwrap();
        assert!(own.rss > 100_000 && own.peak >= own.rss);
        assert_eq!(kib_of("VmRSS:\t  12 kB\n", "VmRSS:"), Some(12));
        assert_eq!(kib_of("VmRSS:\t  12 kB\n", "VmHWM:"), None);
    }
}
