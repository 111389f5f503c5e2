//! The agent's API, driven over loopback by the typed client and by plain HTTP.

mod access;
mod attach;
mod files;
mod filesystem;
mod processes;
mod snapshot;
mod support;
