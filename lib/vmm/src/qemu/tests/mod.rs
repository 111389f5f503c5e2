//! The backend against real QEMU processes, with guests of a few instructions.
