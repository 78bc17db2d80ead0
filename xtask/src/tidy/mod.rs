//! `cargo xtask tidy`: the project's rules that rustfmt and clippy do not know.
//!
//! Each rule returns its violations as text; all of them are shown at once. A violation fails, a warning does not.

mod architecture;
mod edges;
mod sources;

use anyhow::{Result, bail};

use crate::project;

/// What the rules found.
#[derive(Default)]
pub(crate) struct Findings {
    violations: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn violation(&mut self, text: String) {
        self.violations.push(text);
    }

    fn warning(&mut self, text: String) {
        self.warnings.push(text);
    }
}

pub(crate) fn run() -> Result<()> {
    let metadata = project::metadata()?;
    let root = project::root();
    let mut findings = Findings::default();
    edges::check(&metadata, &mut findings);
    sources::check(&root, &mut findings)?;
    architecture::check(&root, &metadata, &mut findings)?;
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for violation in &findings.violations {
        println!("error: {violation}");
    }
    match findings.violations.len() {
        0 => Ok(()),
        count => bail!("{count} violations of the project's rules"),
    }
}
