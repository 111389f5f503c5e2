//! The CPU time of another process, to the nanosecond: `/proc` tells it in hundredths of a second.

use std::io;
use std::time::Duration;

/// CPU time that all threads of a process have used so far, those that have ended too.
///
/// # Errors
/// There is no such process.
pub fn cpu_time_of(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut clock = libc::CLOCK_PROCESS_CPUTIME_ID;
    // SAFETY: `clock` is a place for the answer.
    let problem = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if problem != 0 {
        return Err(io::Error::from_raw_os_error(problem));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a place for the answer.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Ok(Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn child(script: &str) -> Child {
        Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_process_that_works_uses_time_and_one_that_waits_uses_none() {
        let (mut busy, mut waiting) = (child("while :; do :; done"), child("read line"));
        while cpu_time_of(busy.id()).unwrap() < Duration::from_millis(50) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(cpu_time_of(waiting.id()).unwrap() < Duration::from_millis(50));
        for child in [&mut busy, &mut waiting] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(cpu_time_of(busy.id()).is_err(), "it is gone");
    }
}
