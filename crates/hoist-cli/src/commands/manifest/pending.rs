//! Lists that were created and not pushed: a directory for each below `manifests` in the configuration directory, a file for
//! each image. Names and form are those of Docker's client, so that either goes on with what the other began.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hoist_api::reference::Reference;

use super::document::ImageManifest;
use crate::app::{App, Outcome};

pub(super) struct Pending {
    root: PathBuf,
}

/// `r.lan:5000/a:1` as the name of a file.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

impl Pending {
    pub(super) fn of(app: &App) -> Outcome<Self> {
        let dir =
            app.config_dir().ok_or("manifest lists are kept in the configuration directory: set HOME or --config")?;
        Ok(Self { root: Path::new(&dir).join("manifests") })
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// An image of a list, if it is there.
    pub(super) fn get(&self, list: &Reference, image: &Reference) -> Outcome<Option<ImageManifest>> {
        read(&self.directory(list).join(file_name(image)))
    }

    /// All images of a list, by the names of their files; none if there is no such list.
    pub(super) fn list(&self, list: &Reference) -> Outcome<Option<Vec<ImageManifest>>> {
        let directory = self.directory(list);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(told("read", &directory))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(told("read", &directory))?.file_name());
        }
        names.sort();
        let mut images = Vec::new();
        for name in names {
            images.extend(read(&directory.join(name))?);
        }
        Ok(Some(images))
    }

    /// The same for a list that must be there.
    pub(super) fn required(&self, list: &Reference) -> Outcome<Vec<ImageManifest>> {
        Ok(self.list(list)?.ok_or_else(|| missing(list))?)
    }

    /// Keeps an image of a list. A file is whole or as it was before.
    pub(super) fn save(&self, list: &Reference, image: &Reference, manifest: &ImageManifest) -> Outcome {
        let directory = self.directory(list);
        fs::create_dir_all(&directory).map_err(told("create", &directory))?;
        // beside the lists: a list's files are all its images
        let draft = self.root.join(format!(".{}-{}", std::process::id(), file_name(image)));
        let path = directory.join(file_name(image));
        let written = fs::write(&draft, manifest.compact()?).and_then(|()| fs::rename(&draft, &path));
        if written.is_err() {
            // the first error is the one to tell
            let _ = fs::remove_file(&draft);
        }
        Ok(written.map_err(told("write", &path))?)
    }

    pub(super) fn remove(&self, list: &Reference) -> Outcome {
        let directory = self.directory(list);
        Ok(fs::remove_dir_all(&directory).map_err(told("remove", &directory))?)
    }
}

/// What there is no list or image of this name is told by.
pub(super) fn missing(reference: &Reference) -> String {
    format!("No such manifest: {reference}")
}

fn read(path: &Path) -> Outcome<Option<ImageManifest>> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(told("read", path))?,
    };
    let parsed = ImageManifest::parse(&bytes);
    Ok(Some(parsed.map_err(|why| format!("invalid manifest file {}: {why}", path.display()))?))
}

fn told(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot {action} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_the_names_that_docker_gives_them() {
        for (reference, name) in [
            ("127.0.0.1:5000/app:list", "127.0.0.1-5000_app-list"),
            ("x/y:1", "docker.io_x_y-1"),
            (
                "r.lan/a@sha256:0123456789012345678901234567890123456789012345678901234567890123",
                "r.lan_a@sha256-0123456789012345678901234567890123456789012345678901234567890123",
            ),
        ] {
            assert_eq!(file_name(&Reference::parse(reference).unwrap()), name);
        }
    }
}
