//! microVM sandboxes that sleep small and wake fast.

fn main() {}
