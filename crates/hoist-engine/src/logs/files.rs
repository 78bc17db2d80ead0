//! The files of a log, rotated and perhaps compressed ones included.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
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

    /// Passes over `read`, which was read to its end, and what is older. Where it is no longer to be seen (it was compressed
    /// since, or deleted), `is_newer` tells from its content whether a file came after it.
    pub(super) fn skip_read(
        &mut self,
        read: &File,
        mut is_newer: impl FnMut(&mut File) -> io::Result<bool>,
    ) -> io::Result<()> {
        let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let read = identity(read)?;
        for (index, form) in self.files.iter().enumerate() {
            if let Form::Plain(file) = form
                && identity(file)? == read
            {
                self.skip(index + 1);
                return Ok(());
            }
        }
        for index in 0..self.files.len() {
            if is_newer(self.get(index)?)? {
                self.skip(index);
                return Ok(());
            }
        }
        self.files.clear();
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn rest(path: &Path, read: &File) -> Vec<String> {
        let mut files = Files::open(path);
        // What is in a file is when it was written.
        let is_newer = |file: &mut File| Ok(*text(file) > *"3");
        files.skip_read(read, is_newer).unwrap();
        let mut found = Vec::new();
        while let Some(mut file) = files.next().unwrap() {
            std::io::Seek::rewind(&mut file).unwrap();
            found.push(text(&mut file));
        }
        found
    }

    fn text(file: &mut File) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    fn compressed(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn nothing_is_passed_over_when_several_rotations_came_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let numbered = |number: u32| hoist_runtime::launch::rotated_names(&path, number);
        std::fs::write(&path, "5").unwrap();
        for (number, text) in [(1, "4"), (2, "3"), (3, "2")] {
            std::fs::write(&numbered(number)[0], text).unwrap();
        }
        let read = File::open(&numbered(2)[0]).unwrap();
        assert_eq!(rest(&path, &read), ["4", "5"]);
        assert!(rest(&path, &File::open(&path).unwrap()).is_empty());

        std::fs::remove_file(&numbered(2)[0]).unwrap();
        std::fs::write(&numbered(2)[1], compressed("3")).unwrap();
        assert_eq!(rest(&path, &read), ["4", "5"], "what was read is compressed by now");

        std::fs::write(&numbered(1)[0], "9").unwrap();
        std::fs::remove_file(&numbered(2)[1]).unwrap();
        assert_eq!(rest(&path, &read), ["9", "5"], "what was read is deleted by now");
    }
}
