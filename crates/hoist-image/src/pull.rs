//! `docker pull`.

use hoist_api::reference::Reference;

use crate::{Credentials, Error, Platform, ProgressSink, Store};

impl Store {
    /// Pulls one tag or digest (`all_tags`: every tag). The future may be dropped: nothing half-done becomes visible.
    pub async fn pull(
        &self,
        reference: &Reference,
        all_tags: bool,
        platform: Option<&Platform>,
        credentials: Option<&Credentials>,
        progress: ProgressSink,
    ) -> Result<(), Error> {
        let _ = (all_tags, platform, credentials, progress, &self.shared.config);
        Err(Error::Other(format!("pull {reference}: not there yet")))
    }
}
