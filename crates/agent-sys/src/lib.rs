//! The guest agent's kernel ABI: the one place of the agent with `unsafe`.
//!
//! Everything that rustix offers safely is used from there; here is what it does not offer: code that runs between `fork` and
//! `exec`, and the `ioctl`s for the random number generator and for trimming a file system.

mod child;
mod fitrim;
mod pty;
mod random;
mod reap;

pub use child::{ChildSetup, Credentials, prepare_child};
pub use fitrim::trim;
pub use pty::{Pty, TerminalSize, open_pty, resize};
pub use random::{add_entropy, reseed};
pub use reap::{peek_exited_child, reap_exited_child};
