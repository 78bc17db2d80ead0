//! Commands about registries: `login`, `logout`.

pub(super) mod login;
pub(super) mod logout;
