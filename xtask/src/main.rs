//! Repository tasks: agent build, benches.

fn main() {}
