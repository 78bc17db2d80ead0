//! Wall-clock time in the texts that the OCI runtime writes.

use crate::supervisor::time;

/// Now, as Go's RFC3339Nano in UTC.
pub(super) fn now() -> String {
    let mut text = Vec::new();
    time::push_rfc3339_nano(&mut text, time::now_ns());
    String::from_utf8_lossy(&text).into_owned()
}
