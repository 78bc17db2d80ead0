//! One container: its record, its state table, and the task that owns it.

pub(crate) mod attach;
pub(crate) mod changes;
pub(crate) mod driver;
pub(crate) mod ending;
pub(crate) mod files;
pub(crate) mod handle;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod record;
pub(crate) mod requests;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod volumes;
