//! Pauses and resumes with a VMM that only pretends, or with none: what goes wrong here would take luck with a real guest.

mod faults;
mod kept;
mod ram_files;
mod remote;
pub(crate) mod remotes;
mod world;
