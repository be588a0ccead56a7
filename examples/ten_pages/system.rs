//! CPU time and limits of this process.

use std::time::Duration;

/// The CPU time, user and system, of this process and of the child processes that have been waited for.
/// `None` if the system does not report it.
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

/// Raises the limit of open files of this process and its future child processes to `wanted`. If that is
/// more than the hard limit, raises it to the hard limit, and returns that as the error.
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
