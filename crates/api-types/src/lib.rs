//! E2B-compatible REST types.
