//! Images: the store's operations with the engine's knowledge of who uses them, and their events.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use hoist_api::container::Config;
use hoist_api::image::{ContainerConfig, History, Inspect, Metadata, Removed, RootFs};
use hoist_api::inspect::GraphDriver;
use hoist_api::reference::Reference;
use hoist_api::time::{now_ns, rfc3339_nano};
use hoist_image::{Archive, Credentials, Distribution, Image, Platform, ProgressSink, Store, UrlSource, Users};
use serde_json::{Map, Value, json};

use crate::containers::Containers;
use crate::context::Context;
use crate::error::{Error, Result, Translate};

/// The handle on images. Clones share it.
#[derive(Clone, Debug)]
pub struct Images {
    context: Arc<Context>,
    containers: Containers,
}

impl Images {
    pub(crate) fn new(containers: Containers) -> Images {
        Images { context: containers.context().clone(), containers }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.context.images
    }

    pub(crate) fn containers(&self) -> &Containers {
        &self.containers
    }

    pub(crate) fn container_records(&self) -> Vec<Arc<crate::Record>> {
        self.containers.records()
    }

    /// Whether an image is there.
    pub fn exists(&self, name: &str) -> bool {
        self.store().get(name).is_ok()
    }

    /// Pulls a tag, a digest, or all tags.
    pub async fn pull(
        &self,
        reference: &Reference,
        all_tags: bool,
        platform: Option<&Platform>,
        credentials: Option<&Credentials>,
        progress: ProgressSink,
    ) -> Result<()> {
        let begun_ns = now_ns();
        let pulled = self.store().pull(reference, all_tags, platform, credentials, progress).await.api();
        pulled.map_err(|e| self.context.explain(e))?;
        self.settle_after(begun_ns).await;
        let name = reference.familiar();
        self.emit("pull", &name, &reference.familiar_name());
        Ok(())
    }

    /// Refuses what no rule of the signature policy demands a signature of.
    pub fn check_trust(&self, reference: &Reference) -> Result<()> {
        self.store().check_trust(reference).api()
    }

    /// Checks what can be said before anything is sent: a tag that is there must be of the platform that is wanted.
    pub fn check_push(&self, reference: &Reference, platform: Option<&Platform>) -> Result<()> {
        match self.store().get(&reference.familiar()) {
            Ok(image) => check_platform(&image, &reference.familiar(), platform),
            // The push itself says so, in its stream.
            Err(_) => Ok(()),
        }
    }

    /// Pushes a tag, or all tags of a repository.
    pub async fn push(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
        progress: ProgressSink,
    ) -> Result<()> {
        self.store().push(reference, credentials, progress).await.api()?;
        self.emit("push", &reference.familiar(), &reference.familiar_name());
        Ok(())
    }

    /// What a registry says about an image.
    pub async fn distribution(&self, reference: &Reference, credentials: Option<&Credentials>) -> Result<Distribution> {
        self.store().distribution(reference, credentials).await.api()
    }

    /// Whether a registry takes credentials; the identity token it gives for them, if any.
    pub async fn login(&self, server: &str, credentials: &Credentials) -> Result<String> {
        self.store().login(server, credentials).await.api()
    }

    /// Puts in an image that is built into the binary, unless it is there.
    pub fn install(&self, reference: &Reference, config_json: &[u8], layers: &[&[u8]]) -> Result<String> {
        self.store().install(reference, config_json, layers).api()
    }

    /// Loads an archive. Blocking.
    pub fn load(&self, tar: &mut dyn Read, platforms: &[Platform], progress: &ProgressSink) -> Result<()> {
        let begun_ns = now_ns();
        let ids = self.store().load(tar, platforms, progress).api().map_err(|e| self.context.explain(e))?;
        self.settle(begun_ns);
        ids.iter().for_each(|id| self.emit("load", id, id));
        Ok(())
    }

    /// Chooses what an archive is to hold; writing it is the caller's.
    pub fn save(&self, names: &[String], platforms: &[Platform]) -> Result<Archive> {
        let archive = self.store().save(names, platforms).api()?;
        archive.ids().for_each(|id| self.emit("save", id, id));
        Ok(archive)
    }

    /// Begins to read what a URL names, for an import.
    pub async fn open_url(&self, url: &str) -> Result<UrlSource> {
        UrlSource::open(url).await.api()
    }

    /// Imports a root filesystem; returns the image's id. Blocking.
    pub fn import(
        &self,
        tar: &mut dyn Read,
        reference: Option<&Reference>,
        config: &ContainerConfig,
        message: &str,
        platform: Option<&Platform>,
    ) -> Result<String> {
        let begun_ns = now_ns();
        let imported = self.store().import(tar, reference, config, message, platform).api();
        let id = imported.map_err(|e| self.context.explain(e))?;
        self.settle(begun_ns);
        if let Some(reference) = reference {
            self.emit("tag", &id, &reference.clone().with_default_tag().familiar());
        }
        self.emit("import", &id, &id);
        Ok(id)
    }

    pub fn tag(&self, image: &str, repository: &str, tag: &str) -> Result<()> {
        let invalid = |e: hoist_api::reference::ReferenceError| Error::invalid(e.to_string());
        let mut reference = Reference::parse(repository).map_err(invalid)?;
        if reference.digest.is_some() {
            return Err(Error::invalid("refusing to create a tag with a digest reference"));
        }
        if !tag.is_empty() {
            reference = Reference::parse(&format!("{}:{tag}", reference.name())).map_err(invalid)?;
        }
        let reference = reference.with_default_tag();
        let found = self.store().get(image).api()?;
        self.store().tag(image, &reference).api()?;
        self.emit("tag", &found.id, &reference.familiar());
        Ok(())
    }

    /// Untags or removes, with Docker's rules.
    pub fn remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<Removed>> {
        let users = self.users();
        let image = self.store().get(name).api()?;
        let removed = self
            .store()
            .remove(name, force, no_prune, &|image: &Image| users.get(&image.id).cloned().unwrap_or_default())
            .api()?;
        Ok(self.report(&image, removed, None))
    }

    pub(crate) fn users(&self) -> HashMap<String, Users> {
        let mut users: HashMap<String, Users> = HashMap::new();
        for record in self.containers.records() {
            let entry = users.entry(record.fixed.image_id.clone()).or_default();
            let list = if record.state.status.alive() { &mut entry.running } else { &mut entry.stopped };
            list.push(record.id().to_owned());
        }
        users
    }

    /// The containers of an image, running or not, as those that no force removes it from: for removals that nobody asked for
    /// by name. To be asked when the image is about to go, since a container may have come meanwhile.
    pub(crate) fn any_users(&self, image: &Image) -> Users {
        let Users { mut running, mut stopped, .. } = self.users().remove(&image.id).unwrap_or_default();
        running.append(&mut stopped);
        Users { running, stopped }
    }

    /// Bytes of the layers of all images, each layer once.
    pub fn layers_size_bytes(&self) -> u64 {
        let images = self.store().list();
        let layers: HashMap<String, u64> = images.iter().flat_map(|image| self.store().layer_sizes(image)).collect();
        layers.values().sum()
    }

    fn of_platform(&self, name: &str, platform: Option<&Platform>) -> Result<Arc<Image>> {
        let image = self.store().get(name).api()?;
        check_platform(&image, name, platform)?;
        Ok(image)
    }

    /// `GET /images/{name}/json`.
    pub fn inspect(&self, name: &str, platform: Option<&Platform>) -> Result<Inspect> {
        let image = self.of_platform(name, platform)?;
        let text = |key: &str| image.document.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let layers: Vec<String> = self.store().layer_paths(&image).iter().map(|p| crate::merged::display(p)).collect();
        let mut data = json!({});
        if let Some((upper, lower)) = layers.split_first() {
            data["UpperDir"] = json!(upper);
            if !lower.is_empty() {
                data["LowerDir"] = json!(lower.join(":"));
            }
        }
        Ok(Inspect {
            id: image.id.clone(),
            repo_tags: image.repo_tags.clone(),
            repo_digests: image.repo_digests.clone(),
            parent: self.store().parent(&image).unwrap_or_default(),
            comment: comment(&image.document),
            created: text("created"),
            docker_version: text("docker_version"),
            author: text("author"),
            architecture: image.architecture.clone(),
            variant: image.variant.clone(),
            os: image.os.clone(),
            size: image.size_bytes,
            graph_driver: GraphDriver { data, name: "overlay2".to_owned() },
            root_fs: RootFs { r#type: "layers".to_owned(), layers: image.diff_ids.clone() },
            metadata: Metadata { last_tag_time: rfc3339_nano(image.last_tagged_ns) },
            config: without_empty(serde_json::to_value(&image.config).map_err(|e| Error::internal(e.to_string()))?),
            hoist: Some(self.upkeep(&image)),
            manifests: Vec::new(),
        })
    }

    /// The id and the configuration of the container that an image was made of, if it says so; of foreign images what can be
    /// read.
    pub fn made_of(&self, name: &str) -> Result<(String, Config)> {
        let image = self.store().get(name).api()?;
        let container = image.document["container"].as_str().unwrap_or_default().to_owned();
        let config = image.document.get("container_config").cloned();
        Ok((container, config.and_then(|config| serde_json::from_value(config).ok()).unwrap_or_default()))
    }

    pub fn history(&self, name: &str, platform: Option<&Platform>) -> Result<Vec<History>> {
        let image = self.of_platform(name, platform)?;
        let entries = self.store().history(&image).api()?;
        Ok(entries
            .into_iter()
            .map(|e| History {
                id: e.id,
                created: e.created,
                created_by: e.created_by,
                tags: (!e.tags.is_empty()).then_some(e.tags),
                size: e.size,
                comment: e.comment,
            })
            .collect())
    }

    /// How many images there are.
    pub fn count(&self) -> usize {
        self.store().list().len()
    }
}

/// An object without lists and maps that have nothing in them.
fn without_empty(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| {
            !value.as_array().is_some_and(Vec::is_empty) && !value.as_object().is_some_and(Map::is_empty)
        });
    }
    value
}

/// What its last step says, where the image itself says nothing.
fn comment(document: &serde_json::Value) -> String {
    let own = document["comment"].as_str().filter(|text| !text.is_empty());
    let last = || document["history"].as_array()?.last()?["comment"].as_str();
    own.or_else(last).unwrap_or_default().to_owned()
}

/// Refuses an image that is for another platform than somebody wants.
pub(crate) fn check_platform(image: &Image, name: &str, wanted: Option<&Platform>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let (architecture, os, variant) = (image.architecture.clone(), image.os.clone(), image.variant.clone());
    let have = Platform { architecture, os, variant };
    if have.fits(wanted) {
        return Ok(());
    }
    Err(Error::not_found(format!(
        "image with reference {name} was found but its platform ({have}) does not match the specified platform ({wanted})"
    )))
}
