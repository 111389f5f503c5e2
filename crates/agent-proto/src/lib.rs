//! Connect RPC between host and guest agent.
