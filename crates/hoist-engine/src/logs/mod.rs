//! Container logs: where they are. [`options`] says how they are written, [`attributes`] what goes into each entry; the
//! supervisor writes them, [`reader`] reads.

mod attributes;
mod files;
mod options;
pub(crate) mod reader;
mod tail;

use std::path::{Path, PathBuf};

use crate::container::record::Record;

pub use options::check as check_config;
pub(crate) use options::{log_file, parse_bool};

/// The log file; `None` for the driver `none`.
pub(crate) fn path(record: &Record, directory: &Path) -> Option<PathBuf> {
    match record.fixed.host_config.log_config.r#type.as_str() {
        "none" => None,
        "local" => Some(directory.join("local.log")),
        _ => Some(directory.join(format!("{}-json.log", record.id()))),
    }
}
