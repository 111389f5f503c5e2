//! Reads a paused Linux guest's page structures: which pages are free, and what the others are.
