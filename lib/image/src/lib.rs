//! The memory image: page accounting, format, verification.
