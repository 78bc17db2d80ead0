//! Tests on real kernels: each makes a machine of network namespaces, sends the netlink bytes and connects through it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod books;
mod connect;
mod firewalls;
mod support;
