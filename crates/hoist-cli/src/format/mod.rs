//! What users read: tables, sizes, times, JSON, and lists of objects by `--format`.

pub(crate) mod json;
pub(crate) mod list;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod units;
