//! A file or the standard input on its way to the engine as the body of a request.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::AsFd,
};

use crate::app::{Outcome, open_error, read_error};

const STDIN: &str = "/dev/stdin";

/// What is sent, by the name that errors have.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    file: File,
}

impl Source {
    pub(crate) fn open(path: &str) -> Outcome<Self> {
        let file = File::open(path).map_err(|why| open_error(path, &why))?;
        Self::of(path, file)
    }

    pub(crate) fn stdin() -> Outcome<Self> {
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(|why| open_error(STDIN, &why))?;
        Self::of(STDIN, stdin.into())
    }

    /// A directory can be opened and not read: it is refused before there is a request.
    fn of(name: &str, file: File) -> Outcome<Self> {
        match file.metadata() {
            Ok(found) if found.is_dir() => Err(read_error(name, &io::Error::from(rustix::io::Errno::ISDIR)).into()),
            _ => Ok(Self { name: name.to_owned(), file }),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.file.read(buffer) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => Err(why),
            Err(why) => Err(io::Error::other(read_error(&self.name, &why))),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_refused_before_it_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        assert_eq!(Source::open(path).unwrap_err().text, format!("read {path}: is a directory"));
        let missing = format!("{path}/no");
        assert_eq!(Source::open(&missing).unwrap_err().text, format!("open {missing}: no such file or directory"));
    }
}
