//! Pulling and pushing: from the real registry program, and from a server that does whatever a test tells it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hosts;
mod http;
mod large;
mod misbehaving;
mod model;
mod pushing;
mod real;
mod sharing;
mod signatures;
mod support;
