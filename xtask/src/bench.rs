//! `cargo xtask bench`: size and start time of the binary.

use anyhow::Result;

pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    Ok(())
}
