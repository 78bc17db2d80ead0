//! Container life: records, the state machine, one task per container, exec, logs, events; orders images, runtime,
//! network and volumes. Knows Docker's types; knows nothing of HTTP.
//!
//! [`Engine`] is the composition: handles that the doors use.

#![forbid(unsafe_code)]

mod adopt;
mod archive;
mod budget;
mod changes;
mod commit;
mod container;
mod containers;
mod context;
mod create;
mod disk;
mod engine;
mod error;
pub mod events;
mod exec;
mod export;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod glob;
mod image_events;
mod image_list;
mod image_manifests;
mod image_pins;
mod image_prune;
mod image_verify;
mod images;
mod info;
mod init_layer;
mod ipc;
mod links;
mod listing;
mod logs;
mod lower;
mod merged;
mod names;
mod networks;
mod search;
mod settings;
pub mod stream;
mod usage;
mod volumes;

pub use changes::apply_changes;
pub use commit::CommitRequest;
pub use container::attach::{AttachOptions, Attachment};
pub use container::record::{Record, Status};
pub use containers::{Containers, ListOptions, WaitCondition};
pub use create::{CreateRequest, Recording};
pub use engine::Engine;
pub(crate) use error::Error;
pub use exec::{ExecStream, Execs, LaunchedExec};
pub use export::Export;
pub use image_list::IMAGE_FILTER_KEYS;
pub use image_verify::VerifyRequest;
pub use images::Images;
pub use info::System;
pub use listing::FILTER_KEYS as CONTAINER_FILTER_KEYS;
pub use logs::check_config as check_log_config;
pub use logs::reader::LogOptions;
pub use networks::{NETWORK_FILTER_KEYS, Networks};
pub use search::SEARCH_FILTER_KEYS;
pub use settings::{Live, MaxDisk, OWN_RUNTIMES, Reloadable, Runtime, RuntimeBinary, Settings, find_program};
pub use usage::{Usage, UsageKind, VolumePruneReport};
pub use volumes::{VOLUME_FILTER_KEYS, VolumeCreate, Volumes};
