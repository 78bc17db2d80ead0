//! Archives of every shape, and broken ones.
