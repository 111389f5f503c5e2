//! Pseudo terminals.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// Both ends of a new pseudo terminal, close-on-exec.
#[derive(Debug)]
pub struct Pty {
    /// The agent's end.
    pub controller: OwnedFd,
    /// The process's end.
    pub user: OwnedFd,
}

/// Opens a pseudo terminal of `size`. Needs devpts, but no path: the user end comes from the controller (TIOCGPTPEER).
pub fn open_pty(size: TerminalSize) -> io::Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let controller = rustix::pty::openpt(flags)?;
    rustix::pty::unlockpt(&controller)?;
    let user = rustix::pty::ioctl_tiocgptpeer(&controller, flags)?;
    resize(&controller, size)?;
    Ok(Pty { controller, user })
}

/// Changes the size; the foreground process group gets SIGWINCH.
pub fn resize(controller: impl AsFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(controller, size)?)
}
