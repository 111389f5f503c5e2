//! The guest agent, PID 1 of a dormouse microVM.

fn main() {}
