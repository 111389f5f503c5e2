//! Watching another process: a fork of this one, whose only thread waits and does what it is told.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, kill_process, pidfd_open, waitpid};

use super::*;
use crate::Buffer;
use crate::buffer::tests::mapped_file;

const PAGES: usize = 3000;
const PAGE: usize = 4096;
const SHORT: Duration = Duration::from_millis(30);

/// How another process waits for what it is told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Waits {
    Poll,
    Ppoll,
    /// It may come back early.
    EventLoop,
    Sleep,
    Futex,
    /// It does not.
    Busy,
    /// With a filter that keeps it from making a `userfaultfd`.
    Forbidden,
}

/// Who writes a byte of a page: the process itself, or the kernel for it.
#[derive(Clone, Copy, Debug)]
enum By {
    Itself,
    Kernel,
}

/// One at a time: a fork has for a moment what other tests have open, among them their watches.
static ALONE: Mutex<()> = Mutex::new(());

struct Other {
    _alone: MutexGuard<'static, ()>,
    pid: Pid,
    told: PipeWriter,
    says: PipeReader,
    memory: Buffer,
}

impl Other {
    fn start(waits: Waits) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let memory = mapped_file(PAGES, 7);
        let (orders, told) = io::pipe().unwrap();
        let (says, answers) = io::pipe().unwrap();
        // SAFETY: the child does nothing but system calls and writes to its copy of `memory`, and ends without coming back.
        match unsafe { libc::fork() } {
            0 => {
                drop((told, says));
                serve(waits, memory, orders, answers)
            }
            pid => {
                let mut other = Self { _alone: alone, pid: Pid::from_raw(pid).unwrap(), told, says, memory };
                other.hears();
                other
            }
        }
    }

    fn addresses(&self) -> Range<u64> {
        let start = self.memory.as_ptr() as u64;
        start..start + self.memory.len() as u64
    }

    /// Has a byte of a page written, and waits until it is.
    fn writes(&mut self, by: By, page: usize) {
        self.told.write_all(&order(by as u8, page * PAGE + 5)).unwrap();
        self.hears();
    }

    /// Waits until it is ready.
    fn hears(&mut self) {
        self.says.read_exact(&mut [0]).unwrap();
    }

    fn pidfd(&self) -> OwnedFd {
        pidfd_open(self.pid, PidfdFlags::empty()).unwrap()
    }

    fn watch(&self) -> io::Result<WriteWatch> {
        WriteWatch::of(self.pid, self.pidfd())
    }

    fn proc(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid.as_raw_nonzero())
    }

    fn taken(&self, watch: &WriteWatch) -> Vec<u64> {
        let pagemap = File::open(self.proc("pagemap")).unwrap();
        let addresses = self.addresses();
        let page = |address: u64| (address - addresses.start) / PAGE as u64;
        let mut pages = Vec::new();
        watch.take(&pagemap, addresses.clone(), &mut |found| pages.extend(page(found.start)..page(found.end))).unwrap();
        pages
    }

    fn ended(&self) -> WaitStatus {
        waitpid(Some(self.pid), WaitOptions::empty()).unwrap().unwrap().1
    }

    /// Has it end by itself, having found nothing wrong.
    fn ends_well(mut self) {
        self.told.write_all(&order(END, 0)).unwrap();
        assert_eq!(self.ended().exit_status(), Some(0));
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = kill_process(self.pid, Signal::KILL);
        let _ = waitpid(Some(self.pid), WaitOptions::empty());
    }
}

const END: u8 = 2;
const ORDER: usize = 1 + size_of::<usize>();

fn order(what: u8, at: usize) -> [u8; ORDER] {
    let mut order = [what; ORDER];
    order[1..].copy_from_slice(&at.to_ne_bytes());
    order
}

/// What the other process does. It ends with 0 if it was never disturbed.
fn serve(waits: Waits, mut memory: Buffer, mut orders: PipeReader, mut answers: PipeWriter) -> ! {
    let end = |code| {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(code) }
    };
    keep_only(&orders, &answers);
    // Each page is its own by now: what is first read or written of others may take its neighbours along.
    memory.chunks_mut(PAGE).for_each(|page| page[0] = 8);
    if waits == Waits::Forbidden && !forbid_userfaultfd() {
        end(1);
    }
    ANSWERS.store(answers.as_raw_fd(), Ordering::SeqCst);
    // SAFETY: the handler does nothing but a system call.
    unsafe { libc::signal(libc::SIGUSR1, answer_signal as *const () as libc::sighandler_t) };
    loop {
        if answers.write_all(&[1]).is_err() {
            end(5);
        }
        while !is_there(&orders) {
            if !waits_well(waits, &orders) {
                end(2);
            }
        }
        let mut order = [0; ORDER];
        if orders.read_exact(&mut order).is_err() {
            end(3);
        }
        let at = usize::from_ne_bytes(order[1..].try_into().unwrap_or_default());
        let place = &mut memory[at..=at];
        match order[0] {
            END => end(0),
            by if by == By::Itself as u8 => place.fill(9),
            _ if File::open("/dev/zero").and_then(|mut zero| zero.read_exact(place)).is_err() => end(4),
            _ => {}
        }
    }
}

static ANSWERS: AtomicI32 = AtomicI32::new(-1);

extern "C" fn answer_signal(_: i32) {
    // SAFETY: one byte of a constant.
    unsafe { libc::write(ANSWERS.load(Ordering::SeqCst), [1u8].as_ptr().cast(), 1) };
}

/// Closes what other tests of this program had open when it was forked.
fn keep_only(one: &PipeReader, other: &PipeWriter) {
    let mut kept = [one.as_raw_fd(), other.as_raw_fd()].map(i32::cast_unsigned);
    kept.sort_unstable();
    let [first, second] = kept;
    for (from, to) in [(3, first - 1), (first + 1, second - 1), (second + 1, u32::MAX)] {
        // SAFETY: of this process nothing runs on but `serve`, which uses no other descriptor.
        unsafe { libc::close_range(from, to, 0) };
    }
}

/// Whether there is something to read. It is not asked by `poll`, in which it may be stopped.
fn is_there(pipe: &PipeReader) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0)
}

fn poll(fd: &impl AsRawFd, timeout_ms: i32) -> i32 {
    let mut fd = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one exclusively borrowed descriptor.
    unsafe { libc::poll(&raw mut fd, 1, timeout_ms) }
}

/// Waits for an order, or some 30 ms, in a system call of that kind. False if it did not wait as it should.
fn waits_well(how: Waits, orders: &PipeReader) -> bool {
    let begin = Instant::now();
    let short = libc::timespec { tv_sec: 0, tv_nsec: 30_000_000 };
    let word = 0u32;
    // SAFETY: exclusively borrowed descriptors, and times and a word that are only read.
    let waited = unsafe {
        match how {
            Waits::Poll | Waits::Forbidden => libc::c_long::from(poll(orders, 30)),
            Waits::Ppoll | Waits::EventLoop => {
                let mut fd = libc::pollfd { fd: orders.as_raw_fd(), events: libc::POLLIN, revents: 0 };
                libc::ppoll(&raw mut fd, 1, &raw const short, std::ptr::null()).into()
            }
            Waits::Sleep => libc::nanosleep(&raw const short, std::ptr::null_mut()).into(),
            Waits::Futex => {
                libc::syscall(libc::SYS_futex, &raw const word, libc::FUTEX_WAIT, 0, &raw const short);
                0
            }
            Waits::Busy => {
                std::hint::black_box((0..10_000_000u64).fold(0, |sum, n| std::hint::black_box(sum ^ n)));
                return true;
            }
        }
    };
    how == Waits::EventLoop || waited == 1 || (waited == 0 && begin.elapsed() >= SHORT)
}

/// A filter of system calls for this thread (`Documentation/userspace-api/seccomp_filter.rst`), as QEMU has one.
fn forbid_userfaultfd() -> bool {
    let [load, equal, give] =
        [libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET];
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut lines = [
        line(load, 0, 0, 0),
        line(equal, 0, 1, libc::SYS_userfaultfd as u32),
        line(give, 0, 0, libc::SECCOMP_RET_TRAP),
        line(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: lines.len() as u16, filter: lines.as_mut_ptr() };
    // SAFETY: the kernel reads the program, which lives until the call returns.
    let set = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
    };
    set == 0
}

#[test]
fn what_a_process_writes_is_noted_once_whoever_writes_it() {
    let mut other = Other::start(Waits::Poll);
    let watch = other.watch().unwrap();
    watch.add(other.addresses()).unwrap();
    assert_eq!(other.taken(&watch), (0..PAGES as u64).collect::<Vec<_>>(), "nothing is known of what was before");
    assert_eq!(other.taken(&watch), Vec::<u64>::new());
    for by in [By::Itself, By::Kernel] {
        for page in [0, 70, 71, 2999] {
            other.writes(by, page);
        }
        assert_eq!(other.taken(&watch), [0, 70, 71, 2999], "{by:?}");
        assert_eq!(other.taken(&watch), Vec::<u64>::new());
    }
    for page in (0..PAGES).step_by(2) {
        other.writes(By::Itself, page);
    }
    assert_eq!(other.taken(&watch), (0..PAGES as u64).step_by(2).collect::<Vec<_>>(), "also where it is much");
    let second = other.watch().unwrap();
    assert!(second.add(other.addresses()).is_err(), "two cannot watch the same");
    drop(watch);
    second.add(other.addresses()).unwrap();
    other.ends_well();
}

#[test]
fn a_process_that_is_watched_again_and_again_waits_on_as_if_nobody_had() {
    for how in [Waits::Poll, Waits::Ppoll] {
        let mut other = Other::start(how);
        let before = std::fs::read_dir(other.proc("fd")).unwrap().count();
        for page in 0..100 {
            let watch = other.watch().unwrap_or_else(|error| panic!("{how:?}: {error}"));
            watch.add(other.addresses()).unwrap();
            other.writes(By::Itself, page);
        }
        let open = std::fs::read_dir(other.proc("fd")).unwrap().count();
        assert!(open <= before, "nothing is left open in it: {open}, {before} before");
        other.ends_well();
    }
}

#[test]
fn a_process_that_waits_otherwise_or_never_is_not_watched_and_left_as_it_is() {
    for how in [Waits::Sleep, Waits::Futex, Waits::Busy] {
        let mut other = Other::start(how);
        for page in 0..3 {
            assert_eq!(other.watch().unwrap_err().kind(), io::ErrorKind::WouldBlock, "{how:?}");
            other.writes(By::Itself, page);
        }
        other.ends_well();
    }
}

#[test]
fn a_process_that_may_not_make_the_call_is_not_watched_and_lives_on() {
    let mut other = Other::start(Waits::Forbidden);
    other.writes(By::Itself, 0);
    for page in 1..5 {
        assert_eq!(other.watch().unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        other.writes(By::Itself, page);
    }
    other.ends_well();
}

#[test]
fn signals_that_come_at_the_same_time_are_not_lost() {
    let mut other = Other::start(Waits::EventLoop);
    let (pid, pidfd, done) = (other.pid, other.pidfd(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let _ = WriteWatch::of(pid, &pidfd);
            }
        });
        let lost = (0..60_000).find(|_| {
            kill_process(pid, Signal::USR1).unwrap();
            if poll(&other.says, 5000) == 0 {
                return true;
            }
            other.hears();
            false
        });
        done.store(true, Ordering::SeqCst);
        assert_eq!(lost, None);
    });
    other.ends_well();
}

#[test]
#[ignore = "what the watching process does"]
fn the_watching_process() {
    let Ok(pid) = std::env::var("OTHER_PROCESS_PID") else { return };
    let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
    loop {
        let _ = WriteWatch::of(pid, pidfd_open(pid, PidfdFlags::empty()).unwrap());
    }
}

#[test]
fn a_process_lives_on_when_who_watches_it_is_killed_in_whatever_moment() {
    let mut other = Other::start(Waits::EventLoop);
    for page in 0..60 {
        let mut watching = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_watch::tests::the_watching_process", "--ignored"])
            .env("OTHER_PROCESS_PID", other.pid.as_raw_nonzero().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(20_000 + 137 * page as u64));
        watching.kill().unwrap();
        watching.wait().unwrap();
        other.writes(By::Itself, page);
    }
    other.watch().unwrap();
    other.ends_well();
}

#[test]
fn a_process_that_is_gone_is_not_watched() {
    let other = Other::start(Waits::Poll);
    let pidfd = other.pidfd();
    kill_process(other.pid, Signal::KILL).unwrap();
    other.ended();
    assert!(WriteWatch::of(other.pid, pidfd).is_err());
}

#[test]
fn memory_that_is_not_watched_is_not_taken() {
    let other = Other::start(Waits::Poll);
    let watch = other.watch().unwrap();
    let pagemap = File::open(other.proc("pagemap")).unwrap();
    assert!(watch.take(&pagemap, other.addresses(), &mut |_| {}).is_err());
    assert!(watch.add(0x1000..0x2000).is_err(), "nothing is mapped there");
    assert!(watch.add(other.addresses().start..other.addresses().start + 1).is_err());
}
