//! Scenarios on real guests.
