//! The guest agent's kernel ABI.
