//! Standard streams of a container on this terminal: raw mode, detach keys, signals, and the loop that moves bytes.

pub(crate) mod detach;
pub(crate) mod prompt;
pub(crate) mod relay;
pub(crate) mod signals;
pub(crate) mod tty;
