//! System calls that another process makes at our wish, by `ptrace(2)`.
//!
//! The calls are made where its main thread waits in a `poll` of its own, at that call's very instruction; then the thread goes back into
//! its own call as if nothing had been. Should this process be killed in between, the other's `poll` has returned early with a
//! small number: of all calls that wait it is the one whose callers look again at what they were told.

use std::ffi::{c_long, c_uint, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use libc::user_regs_struct as Registers;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// How long the thread may take to stop, or for a call.
const DEADLINE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_micros(50);
/// For how long a thread that does something else is looked at again, and after which time.
const PATIENCE: Duration = Duration::from_millis(300);
const BETWEEN: Duration = Duration::from_millis(2);

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];
/// What a call that waits "returns" when the thread is stopped, and never to its caller (include/linux/errno.h).
const RESTART: [i64; 3] = [-512, -513, -514];
/// The same where the call goes on with what is left of its time.
const RESTART_WITH_BLOCK: i64 = -516;
/// What a stop within a call is reported as (`PTRACE_O_TRACESYSGOOD`).
const AT_CALL: i32 = libc::SIGTRAP | 0x80;
/// What a stop on request is reported as.
const ON_REQUEST: i32 = libc::SIGTRAP | libc::PTRACE_EVENT_STOP << 8;

/// Has the main thread of process `pid` stop, gives it to `work`, and lets it go on as if it had never been stopped.
///
/// `pid` may have been given to another process; the caller must know that it was not. The process's other threads run on.
///
/// # Errors
/// What `work` says; `EPERM` without the right to trace the process or when another traces it, `ESRCH` when it is gone,
/// `TimedOut` when it does not stop, `WouldBlock` when it is not seen waiting in `poll` or `ppoll`. Work that was `Interrupted` is done again.
pub(crate) fn with_stopped<T: Send>(
    pid: Pid,
    work: impl Fn(&mut Stopped) -> io::Result<T> + Send + Sync,
) -> io::Result<T> {
    // Of a thread of its own: the kernel lets go of all that a thread traces when it ends, however that comes.
    let traced = || {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let seized = Seized::of(pid)?;
            let worked = seized.waiting()?.map(|mut stopped| work(&mut stopped));
            match worked {
                Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Some(result) => return result,
                None => drop(seized),
            }
            thread::sleep(BETWEEN);
        }
        Err(io::ErrorKind::WouldBlock.into())
    };
    thread::scope(|scope| {
        scope.spawn(traced).join().unwrap_or_else(|_| Err(io::Error::other("the tracing thread panicked")))
    })
}

/// A thread that we trace. Dropped, it is let go if it stands still, with its registers as they are.
struct Seized {
    pid: Pid,
}

impl Seized {
    fn of(pid: Pid) -> io::Result<Self> {
        trace(libc::PTRACE_SEIZE, pid, ptr::without_provenance_mut(libc::PTRACE_O_TRACESYSGOOD as usize))?;
        let seized = Self { pid };
        trace(libc::PTRACE_INTERRUPT, pid, ptr::null_mut())?;
        loop {
            match seized.next_stop()? {
                ON_REQUEST => return Ok(seized),
                // A signal for it that came first, and is passed on. The request still stands.
                signal if signal >> 8 == 0 => seized.go_on(libc::PTRACE_CONT, signal)?,
                _ => return Err(io::ErrorKind::ResourceBusy.into()),
            }
        }
    }

    /// Waits for it to stop, and says why it did. Never reaps it: that is for its parent, which may be another part of this process.
    fn next_stop(&self) -> io::Result<i32> {
        let began = Instant::now();
        loop {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
            if let Some(status) = waitid(WaitId::Pid(self.pid), options)? {
                let trapped = status.trapping_signal().or(status.stopping_signal());
                return trapped.ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            if began.elapsed() > DEADLINE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            thread::sleep(POLL);
        }
    }

    fn go_on(&self, how: c_uint, signal: i32) -> io::Result<()> {
        let signal = usize::try_from(signal).unwrap_or(0);
        trace(how, self.pid, ptr::without_provenance_mut(signal))
    }

    fn registers(&self) -> io::Result<Registers> {
        let mut registers = MaybeUninit::<Registers>::zeroed();
        trace(libc::PTRACE_GETREGS, self.pid, registers.as_mut_ptr().cast())?;
        // SAFETY: plain numbers, zeroed above, and filled in by the kernel.
        Ok(unsafe { registers.assume_init() })
    }

    fn set_registers(&self, registers: &Registers) -> io::Result<()> {
        trace(libc::PTRACE_SETREGS, self.pid, ptr::from_ref(registers).cast_mut().cast())
    }

    /// The thread as one that waits in `poll`, or nothing if it does something else.
    fn waiting(&self) -> io::Result<Option<Stopped<'_>>> {
        let own = self.registers()?;
        let Some(back) = into_its_call(&own) else { return Ok(None) };
        let mut instruction = [0; SYSCALL.len()];
        let place = back.rip..back.rip + SYSCALL.len() as u64;
        crate::read_memory(self.pid, &[place], &mut instruction)?;
        Ok((instruction == SYSCALL).then_some(Stopped { seized: self, own, back, delivered: 0 }))
    }
}

impl Drop for Seized {
    fn drop(&mut self) {
        // Refused for a thread that did not stop: it is let go when this thread ends.
        let _ = self.go_on(libc::PTRACE_DETACH, 0);
    }
}

/// Registers with which the thread makes the call again that it was stopped in; nothing if that was no `poll`.
fn into_its_call(own: &Registers) -> Option<Registers> {
    let call = i64::try_from(own.orig_rax).ok().filter(|call| [libc::SYS_poll, libc::SYS_ppoll].contains(call))?;
    let rax = match own.rax.cast_signed() {
        result if RESTART.contains(&result) => call,
        RESTART_WITH_BLOCK => libc::SYS_restart_syscall,
        _ => return None,
    };
    let rip = own.rip.checked_sub(SYSCALL.len() as u64)?;
    Some(Registers { rax: rax.cast_unsigned(), rip, orig_rax: u64::MAX, ..*own })
}

/// A thread that stands still in a `poll` of its own. Dropped, it goes back into that.
pub(crate) struct Stopped<'a> {
    seized: &'a Seized,
    /// Its registers as the kernel showed them.
    own: Registers,
    /// Those with which it makes its call again.
    back: Registers,
    /// A signal that it is to get when it is let go.
    delivered: i32,
}

impl Stopped<'_> {
    /// Makes the thread do a system call that does not wait.
    ///
    /// # Errors
    /// What the call says; `PermissionDenied` if the process may not make it, `Interrupted` if a signal came first.
    pub(crate) fn call(&mut self, number: c_long, argument: u64) -> io::Result<u64> {
        let rax = number.cast_unsigned();
        let registers = Registers { rax, rdi: argument, rsi: 0, rdx: 0, r10: 0, r8: 0, r9: 0, ..self.back };
        self.seized.set_registers(&registers)?;
        for _ in ["into the call", "out of it"] {
            self.seized.go_on(libc::PTRACE_SYSCALL, 0)?;
            match self.seized.next_stop()? {
                AT_CALL => {}
                // The process forbade itself the call (seccomp): the signal is for that, and nobody else's.
                libc::SIGSYS => return Err(io::ErrorKind::PermissionDenied.into()),
                signal if signal >> 8 == 0 => {
                    // Before the call: the thread gets the signal as if it were still in its own.
                    self.back = self.own;
                    self.delivered = signal;
                    return Err(io::ErrorKind::Interrupted.into());
                }
                _ => return Err(io::ErrorKind::ResourceBusy.into()),
            }
        }
        let result = self.seized.registers()?.rax.cast_signed();
        match i32::try_from(result) {
            Ok(errno @ -4095..0) => Err(io::Error::from_raw_os_error(-errno)),
            _ => Ok(result.cast_unsigned()),
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // Fails only for a thread that was killed.
        let _ = self.seized.set_registers(&self.back);
        let _ = self.seized.go_on(libc::PTRACE_DETACH, self.delivered);
    }
}

/// `ptrace(2)`, with `data` as `request` takes it: of the requests used here, a number, nothing, or registers.
fn trace(request: c_uint, pid: Pid, data: *mut c_void) -> io::Result<()> {
    // SAFETY: PTRACE_GETREGS writes, and PTRACE_SETREGS reads, one `user_regs_struct`, which the callers pass a live and, for
    // GETREGS, exclusively borrowed one of; of all others `data` is a number. No request changes this process otherwise.
    let result = unsafe { libc::ptrace(request, pid.as_raw_nonzero().get(), ptr::null_mut::<c_void>(), data) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
