//! Skips that cannot be overlooked.

use std::io::Write;

use crate::settings;

/// Notes that the running test is skipped for lack of `need`. Where that need is required, this is a failure.
#[track_caller]
pub fn skipped(need: &str, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    assert!(!settings::required(need), "may not be skipped: {need}: {reason}");
    println!("skipped: {test}: {need}: {reason}");
    if let Some(path) = settings::skips() {
        let file = std::fs::File::options().append(true).create(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{test}: {need}: {reason}"))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
