//! The limits that a decoder process sets for itself: resource limits, and system calls (seccomp).

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch};

/// The lowest priority.
const NICE: i32 = 19;

/// The system calls that a codec needs: reading, writing, memory, locks, clocks, the end of the process.
/// Nothing opens a file or a socket, or starts a process or a thread. Others fail with EPERM.
const SYSTEM_CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    // Reading from the socket that is standard input, and writing to it.
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // abort() sends a signal to its own thread.
    libc::SYS_getpid,
    libc::SYS_gettid,
];

/// The limits of a decoder process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Address space in bytes.
    pub memory_bytes: u64,
    /// Processor time in seconds.
    pub cpu_seconds: u64,
    /// Whether the process runs at the lowest priority.
    pub is_background: bool,
}

/// Sets the limits; returns whether seccomp is on.
///
/// # Errors
/// If a resource limit cannot be set.
pub(super) fn enter(limits: &Limits) -> anyhow::Result<bool> {
    // Where memory runs out, the kernel is to end a decoder before the server.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    if limits.is_background {
        // The decoder works at normal priority, too.
        let _ = setpriority_process(None, NICE);
    }
    limit(Resource::As, limits.memory_bytes).context("address space")?;
    limit(Resource::Cpu, limits.cpu_seconds).context("processor time")?;
    limit(Resource::Core, 0).context("core dump")?;
    limit(Resource::Fsize, 0).context("size of files")?;
    // The descriptors that are open stay open.
    limit(Resource::Nofile, 0).context("open files")?;
    Ok(filter().is_ok())
}

/// Lowers both limits of a resource, which may be lower already.
fn limit(resource: Resource, value: u64) -> rustix::io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })
}

/// Allows the system calls of [`SYSTEM_CALLS`] only, and a signal to the process itself.
fn filter() -> anyhow::Result<()> {
    let calls = SYSTEM_CALLS.iter().map(|&call| (call, Vec::new()));
    let rules: BTreeMap<_, _> = calls.chain([own_signal()?]).collect();
    let (others, listed) = (SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow);
    let filter = SeccompFilter::new(rules, others, listed, TargetArch::try_from(ARCH)?)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// The rule that lets abort() end this process, and no other.
fn own_signal() -> anyhow::Result<(i64, Vec<SeccompRule>)> {
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
    let own = u64::from(std::process::id());
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, own)?;
    Ok((libc::SYS_tgkill, vec![SeccompRule::new(vec![condition])?]))
}
