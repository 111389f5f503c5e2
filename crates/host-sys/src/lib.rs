//! The host's kernel ABI: the one place of the host's code with `unsafe`.
//!
//! What rustix offers safely is used from there. Here is what it does not offer: asking which pages of a private mapping a
//! process has copied for itself ([`own_pages`]) and which it writes while it runs ([`WriteWatch`]), reading many places of
//! another process's memory in one call ([`read_memory`]), memory that is made of huge pages and can be taken before it is needed
//! ([`Buffer`]), what this process has used ([`Usage`]), and the CPU time of another ([`cpu_time_of`]).

mod buffer;
mod cpu_clock;
mod pagemap;
mod pagemap_scan;
#[cfg(target_arch = "x86_64")]
mod remote_call;
mod remote_memory;
mod usage;
mod write_watch;

pub use buffer::Buffer;
pub use cpu_clock::cpu_time_of;
pub use pagemap::own_pages;
pub use remote_memory::read_memory;
pub use usage::Usage;
pub use write_watch::WriteWatch;
