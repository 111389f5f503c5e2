//! Looking at exited children before reaping them. rustix's `waitid` does not tell the pid.

use std::io;
use std::mem::MaybeUninit;

/// Pid of some child that has exited and was not reaped, left as it is. `None` when there is none.
pub fn peek_exited_child() -> io::Result<Option<u32>> {
    exited(libc::P_ALL, 0, libc::WNOWAIT)
}

/// Reaps child `pid` if it has exited. False when it has not, or is no child.
pub fn reap_exited_child(pid: u32) -> io::Result<bool> {
    Ok(exited(libc::P_PID, pid, 0)?.is_some())
}

fn exited(kind: libc::idtype_t, id: u32, flags: libc::c_int) -> io::Result<Option<u32>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: `info` is a writable siginfo_t; the other arguments are plain numbers.
    let result = unsafe { libc::waitid(kind, id, info.as_mut_ptr(), libc::WEXITED | libc::WNOHANG | flags) };
    if result != 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ECHILD) { Ok(None) } else { Err(error) };
    }
    // SAFETY: zeroed above and filled by a successful waitid, which leaves si_pid 0 when no child is in that state; for SIGCHLD
    // information si_pid is the field in use.
    let pid = unsafe { info.assume_init().si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}
