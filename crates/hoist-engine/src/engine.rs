//! The composition: one engine on one root.

use std::fs::{File, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hoist_db::Db;
use hoist_image::Store;
use hoist_runtime::spawner::Spawner;
use rustix::fs::FlockOperation;

use crate::container::handle::Event;
use crate::container::record::Records;
use crate::containers::Containers;
use crate::context::{Context, Parts};
use crate::error::{Error, Result, Translate, io};
use crate::events::Events;
use crate::exec::Execs;
use crate::images::Images;
use crate::info::System;
use crate::networks::Networks;
use crate::settings::Settings;
use crate::volumes::Volumes;
use crate::{adopt, init_layer, names};

/// The handles of one engine; each has what it uses and no more.
#[derive(Debug)]
pub struct Engine {
    pub containers: Containers,
    pub execs: Execs,
    pub images: Images,
    pub networks: Networks,
    pub volumes: Volumes,
    pub system: System,
    pub events: Events,
    /// Held while the engine lives: a second engine on the same root is refused.
    _lock: File,
}

impl Engine {
    /// Opens the root, adopts what survived the last engine. Must be called within a tokio runtime.
    pub fn open(settings: Settings, spawner: Spawner) -> Result<Engine> {
        for (path, mode) in [
            (settings.root.clone(), 0o710),
            (settings.run_dir.clone(), 0o710),
            (settings.root.join("containers"), 0o710),
            (settings.root.join("removed"), 0o700),
            (settings.run_dir.join("containers"), 0o700),
        ] {
            std::fs::DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(io("create", &path))?;
            // Also where an earlier release, or whoever made it, was more generous.
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(io("chmod", &path))?;
        }
        init_layer::make(&settings.root)?;
        let lock = lock(&settings.root)?;
        let db = Db::open(&settings.root.join("hoist.db")).api()?;
        let images = Store::open(&settings.root.join("image"), db.clone(), settings.live.now().image.clone()).api()?;
        let events = Events::default();
        let told = events.clone();
        let volumes = hoist_volume::Volumes::open(&settings.root, db.clone()).api()?;
        let volumes = volumes.telling(move |change, name| crate::volumes::tell(&told, change, name));
        let networks = hoist_network::Networks::open(db.clone(), settings.network.clone()).api()?;
        let id = engine_id(&settings.root)?;
        let context = Arc::new(Context::new(Parts {
            records: Records::open(db)?,
            settings,
            images,
            networks,
            volumes,
            spawner,
            events: events.clone(),
        }));
        let containers = Containers::new(context.clone());
        adopt::adopt_all(&containers)?;
        let images = Images::new(containers.clone());
        images.settle_soon();
        Ok(Engine {
            execs: Execs::new(containers.clone()),
            images,
            networks: Networks::new(containers.clone()),
            volumes: Volumes::new(context),
            system: System::new(containers.clone(), id),
            events,
            containers,
            _lock: lock,
        })
    }

    /// Orderly end. With live restore containers go on under their supervisors; else they are stopped.
    pub async fn shut_down(&self) {
        let context = self.containers.context().clone();
        let live = context.settings.live.now();
        if !live.live_restore {
            let mut stops = tokio::task::JoinSet::new();
            for record in self.containers.records() {
                if record.state.status.alive() {
                    let containers = self.containers.clone();
                    stops.spawn(async move { containers.stop(record.id(), None, None).await });
                }
            }
            let all = async {
                while let Some(stopped) = stops.join_next().await {
                    if let Ok(Err(e)) = stopped {
                        tracing::warn!("cannot stop a container: {e}");
                    }
                }
            };
            match u64::try_from(live.shutdown_timeout_s) {
                Err(_negative) => all.await,
                Ok(seconds) => {
                    if tokio::time::timeout(Duration::from_secs(seconds), all).await.is_err() {
                        tracing::warn!("containers did not stop within {seconds} seconds: they are left alone");
                    }
                }
            }
        }
        for handle in self.containers.handles() {
            _ = handle.tell(Event::Abandon);
        }
    }
}

/// Takes the root for this engine alone.
fn lock(root: &Path) -> Result<File> {
    let path = root.join("engine.lock");
    let file = File::options().create(true).append(true).open(&path).map_err(io("open", &path))?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::conflict(format!(
            "another engine uses {}: stop it, or choose another directory with --root",
            root.display()
        ))
    })?;
    Ok(file)
}

/// An id that stays with the root.
fn engine_id(root: &Path) -> Result<String> {
    let path = root.join("engine-id");
    if let Ok(text) = std::fs::read_to_string(&path)
        && !text.trim().is_empty()
    {
        return Ok(text.trim().to_owned());
    }
    let hex = names::random_id();
    let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]);
    std::fs::write(&path, &id).map_err(io("write", &path))?;
    Ok(id)
}
