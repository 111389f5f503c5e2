//! Processes: starting them, feeding them, following them, ending them.

mod children;
mod command;
mod event;
mod output;
mod pipe;
mod refusal;
mod registry;
mod rpc;
mod running;
mod start;
mod stream;

pub(crate) use children::Children;
pub(crate) use registry::Registry;
pub(crate) use rpc::ProcessRpc;
