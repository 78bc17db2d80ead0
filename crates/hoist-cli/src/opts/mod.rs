//! What users type into flags, parsed to what the API takes. Nothing here talks to the engine.

pub(crate) mod create;
pub(crate) mod create_flags;
pub(crate) mod csv;
pub(crate) mod device;
pub(crate) mod filter;
pub(crate) mod key_value;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod resource;
pub(crate) mod security;
