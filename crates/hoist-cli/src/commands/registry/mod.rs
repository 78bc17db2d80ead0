//! Commands about registries: `login`, `logout`, `search`.

pub(super) mod login;
pub(super) mod logout;
pub(super) mod search;
