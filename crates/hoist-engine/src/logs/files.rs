//! The files of a log, rotated and perhaps compressed ones included.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rustix::fs::{FlockOperation, Mode, OFlags};

/// The files of a log as they were at one moment, oldest first: `path.N` … `path.1`, `path`.
pub(super) struct Files {
    directory: PathBuf,
    files: VecDeque<Form>,
}

enum Form {
    Plain(File),
    /// `path.N.gz`
    Compressed(File),
}

impl Files {
    /// Opens them all, while no rotation gives them other names: the supervisor takes the same lock for that. Only opens:
    /// unpacking is for whoever reads.
    pub(super) fn open(path: &Path) -> Files {
        let directory = path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let lock = share(&directory);
        let mut files: VecDeque<Form> = VecDeque::new();
        files.extend(File::open(path).ok().map(Form::Plain));
        (1..).map_while(|number| open_numbered(path, number)).for_each(|form| files.push_front(form));
        drop(lock);
        Files { directory, files }
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A file to read and seek in. A compressed one is unpacked into one without a name when it is first asked for; where
    /// that fails, it is empty: what is older and newer can still be read.
    ///
    /// # Panics
    ///
    /// If there is no such index.
    pub(super) fn get(&mut self, index: usize) -> io::Result<&mut File> {
        let form = &mut self.files[index];
        if let Form::Compressed(compressed) = form {
            let unpacked = match unpack(compressed, &self.directory) {
                Ok(file) => file,
                Err(e) => {
                    tracing::warn!("cannot unpack a rotated log in {}: {e}", self.directory.display());
                    File::open("/dev/null")?
                }
            };
            *form = Form::Plain(unpacked);
        }
        match form {
            Form::Plain(file) | Form::Compressed(file) => Ok(file),
        }
    }

    /// Passes over the oldest ones.
    pub(super) fn skip(&mut self, count: usize) {
        self.files.drain(..count.min(self.files.len()));
    }

    /// The oldest that is left.
    pub(super) fn next(&mut self) -> io::Result<Option<File>> {
        if self.files.is_empty() {
            return Ok(None);
        }
        self.get(0)?;
        Ok(self.files.pop_front().map(|form| match form {
            Form::Plain(file) | Form::Compressed(file) => file,
        }))
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn of(files: impl IntoIterator<Item = File>) -> Files {
        Files { directory: PathBuf::new(), files: files.into_iter().map(Form::Plain).collect() }
    }
}

/// The plain form goes when the compressed one is there.
fn open_numbered(path: &Path, number: u32) -> Option<Form> {
    let [plain, compressed] = hoist_runtime::launch::rotated_names(path, number);
    let compressed = || File::open(compressed).map(Form::Compressed);
    File::open(plain).map(Form::Plain).or_else(|_| compressed()).ok()
}

/// Without the lock a log can be read all the same, only not while it is being rotated.
fn share(directory: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, FlockOperation::LockShared)).ok()?;
    Some(directory)
}

fn unpack(compressed: &mut File, directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut MultiGzDecoder::new(compressed), &mut file)?;
    Ok(file)
}
