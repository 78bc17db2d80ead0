//! Bringing one layer to the target as planned. Its tar is written, compressed and hashed by a thread, and sent as it
//! comes; when the connection breaks, the same bytes are made again and those that the registry has are left out.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::gzip::Gzip;
use super::plan::{self, Form, Plan, Way};
use super::{LayerFailure, Placed, Push};
use crate::manifest::{Descriptor, MEDIA_DOCKER_LAYER};
use crate::registry::{self, ChunkSink, Failure, Repository, Upload};
use crate::{Error, Progress, ProgressSink, Shared, digest, unpack};

const CHUNK_BYTES: usize = 64 * 1024;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

pub(super) async fn carry_out(push: &Push, plan: Plan) -> Result<Placed, LayerFailure> {
    let Plan { diff_id, way } = plan;
    if let Some((descriptor, status)) = plan::outcome(&way) {
        push.say(&diff_id, status);
        return Ok(Placed { diff_id, descriptor, proven: false });
    }
    let (descriptor, proven) = match way {
        Way::Copy { from, wanted } => (copy(push, &diff_id, &from, wanted).await?, false),
        Way::Make { form, wanted } => (make(push, &diff_id, form, wanted).await?, true),
        Way::Foreign(_) | Way::There(_) | Way::Mounted(..) => return Err(nothing_to_do()),
    };
    push.say(&diff_id, "Pushed");
    Ok(Placed { diff_id, descriptor, proven })
}

fn nothing_to_do() -> LayerFailure {
    LayerFailure::Here(Error::Other("a layer that is there cannot be sent".to_owned()))
}

/// What a layer was made into.
#[derive(Clone, Debug)]
struct Made {
    digest: String,
    bytes: u64,
}

/// Makes the blob and sends it.
async fn make(push: &Push, diff_id: &str, form: Form, wanted: Option<Descriptor>) -> Result<Descriptor, LayerFailure> {
    let total = push.shared.tar_bytes(diff_id).map_err(LayerFailure::Here)?;
    let ticks = Ticks::new(&push.progress, diff_id, total);
    let (mut upload, mut attempt, mut furthest) = (None, 0, 0);
    loop {
        let sent = make_once(push, diff_id, form, (&mut upload, &mut furthest), &ticks).await;
        let failure = match sent {
            Ok(made) => return described(made, form, wanted),
            Err((LayerFailure::Failed(failure), came_further)) => {
                // Progress earns new attempts.
                attempt = if came_further { 1 } else { attempt + 1 };
                failure
            }
            Err((here, _)) => return Err(here),
        };
        let pause = push.target.pause(&failure, attempt).ok_or(failure)?;
        tracing::debug!(diff_id, attempt, "layer upload is taken up again");
        let seconds = pause.as_secs().max(1);
        push.say(diff_id, format!("Retrying in {seconds} second{}", if seconds == 1 { "" } else { "s" }));
        tokio::time::sleep(pause).await;
    }
}

fn described(made: Made, form: Form, wanted: Option<Descriptor>) -> Result<Descriptor, LayerFailure> {
    match wanted {
        Some(wanted) if wanted.digest == made.digest && wanted.size == made.bytes => Ok(wanted),
        Some(wanted) => {
            let text = format!("layer {} is made as {} now", wanted.digest, made.digest);
            Err(Failure::Broken(text).into())
        }
        None => {
            let media_type = if form == Form::Gzip { MEDIA_DOCKER_LAYER } else { "" }.to_owned();
            let Made { digest, bytes: size } = made;
            Ok(Descriptor { media_type, digest, size, ..Descriptor::default() })
        }
    }
}

/// One attempt. A failure comes with whether the registry had got further than ever before.
async fn make_once(
    push: &Push,
    diff_id: &str,
    form: Form,
    (upload, furthest): (&mut Option<Upload>, &mut u64),
    ticks: &Arc<Ticks>,
) -> Result<Made, (LayerFailure, bool)> {
    let stuck = |failure: Failure| (LayerFailure::Failed(failure), false);
    let have = match upload {
        Some(upload) => push.target.resume_upload(upload).await.map_err(stuck)?,
        None => None,
    };
    let came_further = have.is_some_and(|have| have > *furthest);
    *furthest = have.unwrap_or(0).max(*furthest);
    let failed = |failure: Failure| (LayerFailure::Failed(failure), came_further);
    if have.is_none() {
        *upload = Some(push.target.begin_upload().await.map_err(failed)?);
    }
    let (sink, bytes) = registry::channel();
    let making = Making { shared: push.shared.clone(), diff_id: diff_id.to_owned(), form, skip: have.unwrap_or(0) };
    let made = making.start(sink, ticks.clone()).map_err(|e| (LayerFailure::Here(e), false))?;
    let Some(upload) = upload else { return Err((nothing_to_do(), false)) };
    let appended = push.target.append(upload, bytes).await;
    // The maker ends in any case: its reader is gone or satisfied.
    match (appended, made.await) {
        (_, Ok(Err(here))) => Err((LayerFailure::Here(here), false)),
        (Err(failure), _) => Err(failed(failure)),
        (Ok(()), Ok(Ok(Some(made)))) => {
            push.target.finish_upload(upload, &made.digest, Bytes::new()).await.map_err(failed)?;
            Ok(made)
        }
        (Ok(()), _) => Err(failed(Failure::Unreachable("the registry did not take all of the layer".to_owned()))),
    }
}

/// A layer's tar on its way out.
struct Making {
    shared: Arc<Shared>,
    diff_id: String,
    form: Form,
    /// Bytes of the result that the registry has already.
    skip: u64,
}

impl Making {
    /// A thread of its own: the pool's are for what ends soon. The result is none if nobody took all of it.
    fn start(
        self,
        sink: ChunkSink,
        ticks: Arc<Ticks>,
    ) -> Result<oneshot::Receiver<Result<Option<Made>, Error>>, Error> {
        let (sender, made) = oneshot::channel();
        let spawned = thread::Builder::new().name("layer-out".to_owned()).spawn(move || {
            // Without a receiver nobody wants to know.
            let _ = sender.send(self.run(sink, &ticks));
        });
        spawned.map_err(|e| Error::Other(format!("cannot start a thread for a layer: {e}")))?;
        Ok(made)
    }

    fn run(self, sink: ChunkSink, ticks: &Ticks) -> Result<Option<Made>, Error> {
        let out = Outlet { sink, skip: self.skip, hasher: Sha256::new(), bytes: 0, closed: false };
        let mut out = BufWriter::with_capacity(CHUNK_BYTES, out);
        let written = match self.form {
            Form::Plain => self.replay(&mut Counted { out: &mut out, ticks, bytes: 0 }),
            Form::Gzip => {
                let mut gzip = Gzip::new(&mut out);
                let replayed = self.replay(&mut Counted { out: &mut gzip, ticks, bytes: 0 });
                replayed.and_then(|()| gzip.finish())
            }
        };
        let written = written.and_then(|()| out.flush());
        let (out, _) = out.into_parts();
        match written {
            Ok(()) => {
                let made = Made { digest: digest::finish(out.hasher), bytes: out.bytes };
                out.sink.finish_blocking();
                Ok(Some(made))
            }
            Err(_) if out.closed => Ok(None),
            Err(e) => Err(Error::Other(format!("layer {} cannot be written as it came: {e}", self.diff_id))),
        }
    }

    fn replay(&self, out: &mut dyn Write) -> io::Result<()> {
        let disk = &self.shared.disk;
        unpack::replay(&disk.layer_record(&self.diff_id), &disk.layer_content(&self.diff_id), out)
    }
}

/// Hashes everything and hands on what the registry lacks.
struct Outlet {
    sink: ChunkSink,
    skip: u64,
    hasher: Sha256,
    bytes: u64,
    closed: bool,
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        let rest = &bytes[skipped..];
        if !rest.is_empty() && !self.sink.send_blocking(Bytes::copy_from_slice(rest)) {
            self.closed = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts what passes, for the progress.
struct Counted<'a, W> {
    out: W,
    ticks: &'a Ticks,
    bytes: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.bytes += count as u64;
        self.ticks.tell(self.bytes);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Says now and then how far a layer is.
struct Ticks {
    progress: ProgressSink,
    id: String,
    total: u64,
    last: Mutex<Option<Instant>>,
}

impl Ticks {
    fn new(progress: &ProgressSink, diff_id: &str, total: u64) -> Arc<Ticks> {
        let id = digest::short(diff_id).to_owned();
        Arc::new(Ticks { progress: progress.clone(), id, total, last: Mutex::default() })
    }

    fn tell(&self, bytes: u64) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes == self.total || last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL) {
            *last = Some(Instant::now());
            (self.progress)(Progress::bytes(&self.id, "Pushing", bytes, self.total));
        }
    }
}

/// Streams the blob from where the image came from. The target's registry checks the digest, and so do we.
async fn copy(push: &Push, diff_id: &str, from: &Repository, wanted: Descriptor) -> Result<Descriptor, LayerFailure> {
    let ticks = Ticks::new(&push.progress, diff_id, wanted.size);
    let mut attempt = 0;
    loop {
        let failure = match copy_once(push, from, &wanted, &ticks).await {
            Ok(()) => return Ok(wanted),
            Err(failure) => failure,
        };
        attempt += 1;
        let pause = push.target.pause(&failure, attempt).ok_or(failure)?;
        tokio::time::sleep(pause).await;
    }
}

async fn copy_once(push: &Push, from: &Repository, wanted: &Descriptor, ticks: &Ticks) -> Result<(), Failure> {
    let mut upload = push.target.begin_upload().await?;
    let (sink, bytes) = registry::channel();
    let fetch = async {
        let mut offset = 0;
        let report = |event: registry::LayerEvent| {
            if let registry::LayerEvent::Received(bytes) = event {
                ticks.tell(bytes);
            }
        };
        let fetched = from.layer(wanted, &mut offset, &sink, &report).await;
        match &fetched {
            Ok(()) => sink.finish().await,
            Err(failure) => sink.fail(failure.to_string()).await,
        }
        fetched
    };
    let (fetched, appended) = tokio::join!(fetch, push.target.append_hashed(&mut upload, bytes));
    // Without the source's bytes another attempt is in vain: `layer` has made its own.
    let not_wanted = registry::not_wanted();
    let digest = match fetched {
        Err(failure) if failure != not_wanted => {
            push.target.cancel_upload(upload).await;
            return Err(Failure::Broken(format!("{}: {failure}", from.shown())));
        }
        _ => appended?,
    };
    if digest != wanted.digest {
        push.target.cancel_upload(upload).await;
        return Err(Failure::Broken(format!("{}: layer {} came as {digest}", from.shown(), wanted.digest)));
    }
    push.target.finish_upload(&upload, &wanted.digest, Bytes::new()).await
}
