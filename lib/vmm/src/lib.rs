//! VMM backends behind one trait.
