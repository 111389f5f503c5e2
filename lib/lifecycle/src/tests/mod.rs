//! Pauses and resumes with a VMM that only pretends: what goes wrong here would take luck with a real guest.

mod faults;
mod ram_files;
mod world;
