//! The core and the priority of a thread.

/// Binds this thread to one of the cores in `BENCH_CORES`: the first is for the runtime, the second for
/// everything else. Does nothing without that variable.
pub fn on_core(which: usize) {
    let Ok(cores) = std::env::var("BENCH_CORES") else {
        return;
    };
    let core = cores.split(',').nth(which).expect("two cores");
    let core = core.parse().expect("the number of a core");
    // SAFETY: the set is local, and the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        let result = libc::sched_setaffinity(0, size_of_val(&set), &set);
        assert_eq!(result, 0, "core {core}");
    }
}

/// Raises the priority of this process, which needs root, so that other programs disturb less. Also starts
/// a new session, since Linux may group processes by session.
#[allow(dead_code)] // The others inherit it from the runner.
pub fn first() {
    // SAFETY: these only change the session and the priority of this process.
    unsafe {
        libc::setsid();
        libc::setpriority(libc::PRIO_PROCESS, 0, -20);
    }
    let _ = std::fs::write("/proc/self/autogroup", "-20");
}

/// Lets this thread run only when its core is idle otherwise, or before all other threads (needs root).
#[allow(dead_code)] // Most inherit their policy.
pub fn policy(policy: libc::c_int, priority: libc::c_int) {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters are only read.
    unsafe { libc::sched_setscheduler(0, policy, &parameters) };
}
