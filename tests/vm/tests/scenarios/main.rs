//! All scenarios on real guests, in one program: they share one host, one template and one runtime.
#![forbid(unsafe_code)]

mod agent;
mod checkpoints;
mod ctrl_c;
mod cycles;
mod daemon;
mod faults;
mod free_pages;
mod processes;
mod round_trip;
