//! Sandboxes: state machine, pause, resume, fork, recovery.
