//! What the system knows about a process.

use std::time::Duration;

/// The CPU time, user and system, of this process and of those of its children that have ended and
/// have been waited for. `None` where the system does not tell.
#[cfg(unix)]
pub(crate) fn cpu_time() -> Option<Duration> {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;

    let of = |who| {
        let usage = getrusage(who).ok()?;
        let time = usage.user_time() + usage.system_time();
        let micros = u64::try_from(time.num_microseconds()).ok()?;
        Some(Duration::from_micros(micros))
    };
    Some(of(UsageWho::RUSAGE_SELF)? + of(UsageWho::RUSAGE_CHILDREN)?)
}

#[cfg(not(unix))]
pub(crate) fn cpu_time() -> Option<Duration> {
    None
}

/// Lets this process, and those that it starts, have so many files open. If the administrator does
/// not allow so many, it gets all that are allowed, and the error says how many.
#[cfg(unix)]
pub(crate) fn allow_open_files(wanted: u32) -> Result<(), String> {
    use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    let wanted = rlim_t::from(wanted);
    if soft >= wanted {
        return Ok(());
    }
    let allowed = match setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard) {
        Ok(()) if hard >= wanted => return Ok(()),
        Ok(()) => hard,
        Err(_) => soft,
    };
    Err(allowed.to_string())
}

#[cfg(not(unix))]
pub(crate) fn allow_open_files(_: u32) -> Result<(), String> {
    Ok(())
}
