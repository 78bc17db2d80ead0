//! What brings one layer in: waits for a slot and for somebody who wants the layer, feeds the unpacker, tells everybody.

use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Download, KEEP, LayerFailure, lock};
use crate::ingest::LayerDraft;
use crate::manifest::Descriptor;
use crate::registry::{self, ChunkSink, Failure, LayerEvent};
use crate::unpack::Whiteouts;
use crate::{Error, Progress, Shared, digest};

const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// The work on one download.
pub(super) struct Task {
    download: Arc<Download>,
    descriptor: Descriptor,
    shared: Arc<Shared>,
    offset: u64,
    stream: Option<Stream>,
}

/// The unpacker at work and the way to feed it.
struct Stream {
    sink: ChunkSink,
    unpacked: oneshot::Receiver<Result<LayerDraft, Error>>,
}

impl Task {
    pub(super) fn new(download: Arc<Download>, descriptor: Descriptor, shared: Arc<Shared>) -> Task {
        Task { download, descriptor, shared, offset: 0, stream: None }
    }

    pub(super) async fn run(mut self) {
        let ended = loop {
            if !self.is_wanted().await {
                self.forget_part().await;
                return;
            }
            let slots = self.shared.downloads.slots.free.clone();
            let slot = tokio::select! {
                // It is never closed.
                slot = slots.acquire() => slot,
                () = self.download.unwanted() => continue,
            };
            let fetched = self.fetch().await;
            drop(slot);
            match fetched {
                None => continue,
                Some(Ok(())) => break self.finish().await,
                Some(Err(failure)) if failure == registry::not_wanted() => break self.unpacker_failed().await,
                Some(Err(failure)) if failure.is_transient() => {
                    self.download.answer(&Err(LayerFailure::Fetch(failure)));
                    self.download.settled().await;
                }
                Some(Err(failure)) => break Err(LayerFailure::Fetch(failure)),
            }
        };
        self.forget_part().await;
        match &ended {
            Ok(()) => lock(&self.download.state).finished = true,
            Err(_) => drop(lock(&self.shared.downloads.known).remove(&self.download.key)),
        }
        self.download.answer(&ended);
        if ended.is_ok() {
            let (shared, download) = (Arc::downgrade(&self.shared), Arc::downgrade(&self.download));
            drop(self);
            expire(shared, download).await;
        }
    }

    /// Waits until somebody wants it, for a while; false if it was given up.
    async fn is_wanted(&self) -> bool {
        let (downloads, download) = (&self.shared.downloads, &self.download);
        let mut wanted = download.wanted.subscribe();
        if *wanted.borrow_and_update() > 0 {
            return true;
        }
        lock(&download.state).idle_since = Some(Instant::now());
        downloads.thin_out();
        let give_up_at = tokio::time::Instant::now() + KEEP;
        loop {
            if !downloads.is_known(download) {
                return false;
            }
            match tokio::time::timeout_at(give_up_at, wanted.changed()).await {
                Ok(_) if *wanted.borrow_and_update() > 0 => return true,
                Ok(_) => {}
                Err(_) => {
                    if downloads.give_up(download) {
                        return false;
                    }
                }
            }
        }
    }

    /// Removes what is kept of the layer's bytes, which may take a while.
    async fn forget_part(&self) {
        let (shared, descriptor, download) = (self.shared.clone(), self.descriptor.clone(), self.download.clone());
        let forget = move || shared.partials.forget(&descriptor, &download.key.2);
        if let Err(e) = tokio::task::spawn_blocking(forget).await {
            tracing::warn!(error = %e, "a part of a pull stays until the next start");
        }
    }

    /// Reads from where the last attempt stopped; nothing if nobody wants it any more.
    async fn fetch(&mut self) -> Option<Result<(), Failure>> {
        if self.stream.is_none() {
            match self.start_unpacking() {
                Ok(stream) => self.stream = Some(stream),
                Err(e) => return Some(Err(Failure::Broken(format!("cannot start a thread for a layer: {e}")))),
            }
        }
        let source = lock(&self.download.state).source.clone()?;
        let (download, sink) = (&self.download, &self.stream.as_ref()?.sink);
        let (id, total) = (digest::short(&self.descriptor.digest), self.descriptor.size);
        let last = Mutex::new(None::<Instant>);
        let report = |event: LayerEvent| match event {
            LayerEvent::Received(bytes) => {
                let mut last = lock(&last);
                if bytes == total || last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL) {
                    *last = Some(Instant::now());
                    download.tell(Progress::bytes(id, "Downloading", bytes, total));
                }
            }
            LayerEvent::Retrying(pause) => {
                let seconds = pause.as_secs().max(1);
                download.say(format!("Retrying in {seconds} second{}", if seconds == 1 { "" } else { "s" }));
            }
        };
        tokio::select! {
            fetched = source.layer(&self.descriptor, &mut self.offset, sink, &report) => Some(fetched),
            () = download.unwanted() => None,
        }
    }

    /// A thread of its own: a paused one would hold one of the pool's.
    fn start_unpacking(&mut self) -> std::io::Result<Stream> {
        let (sink, reader) = registry::channel();
        let (here, reader) = self.shared.partials.take_up(&self.descriptor, &self.download.key.2, reader);
        self.offset = here;
        let (sender, unpacked) = oneshot::channel();
        let (download, expected) = (self.download.clone(), self.descriptor.digest.clone());
        thread::Builder::new().name("layer".to_owned()).spawn(move || {
            let draft = download.ingest.unpack_verified(reader, Whiteouts::Overlay, &expected);
            // Without a receiver the work directory goes, and the draft with it.
            _ = sender.send(draft);
        })?;
        Ok(Stream { sink, unpacked })
    }

    async fn finish(&mut self) -> Result<(), LayerFailure> {
        self.download.say("Verifying Checksum");
        let layer = self.unpacked(true).await?;
        self.download.say("Download complete");
        let (id, total) = (digest::short(&self.descriptor.digest), self.descriptor.size);
        self.download.tell(Progress::bytes(id, "Extracting", total, total));
        let wanted = &self.download.key.2;
        if layer.diff_id != *wanted {
            let text = format!("layer {id} unpacks to {}, the image config says {wanted}", layer.diff_id);
            self.download.ingest.discard(&layer);
            return Err(LayerFailure::Unpack(text));
        }
        let download = self.download.clone();
        let settled = tokio::task::spawn_blocking(move || download.ingest.settle(layer)).await;
        let settled = settled.map_err(|e| LayerFailure::Unpack(format!("layer task: {e}")))?;
        settled.map_err(|e| LayerFailure::Unpack(e.to_string()))?;
        self.download.say("Pull complete");
        Ok(())
    }

    async fn unpacker_failed(&mut self) -> Result<(), LayerFailure> {
        self.unpacked(false).await.map(drop)
    }

    async fn unpacked(&mut self, whole: bool) -> Result<LayerDraft, LayerFailure> {
        let gone = || LayerFailure::Unpack("the layer's unpacker is gone".to_owned());
        let stream = self.stream.take().ok_or_else(gone)?;
        if whole {
            stream.sink.finish().await;
        } else {
            drop(stream.sink);
        }
        stream.unpacked.await.map_err(|_| gone())?.map_err(|e| LayerFailure::Unpack(e.to_string()))
    }
}

/// Keeps a finished layer for a while, for a pull that is taken up again.
async fn expire(shared: Weak<Shared>, download: Weak<Download>) {
    loop {
        tokio::time::sleep(KEEP).await;
        let (Some(shared), Some(download)) = (shared.upgrade(), download.upgrade()) else { return };
        if shared.downloads.give_up(&download) {
            return;
        }
    }
}
