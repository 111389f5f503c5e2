//! The guest agent's subsystems.
