//! Pulling: from the real registry program, and from a server that does whatever a test tells it.

mod misbehaving;
mod real;
mod support;
