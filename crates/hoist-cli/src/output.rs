//! A file named by `--output`: written beside its place and moved there when it is whole, so that an archive that broke
//! off is not taken for one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use crate::app::Outcome;

#[derive(Debug)]
pub(crate) struct OutputFile {
    path: PathBuf,
}

impl OutputFile {
    /// Tests the place before anything is asked of the engine.
    pub(crate) fn check(path: &str) -> Result<Self, String> {
        let path = PathBuf::from(path);
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty())
            && !dir.exists()
        {
            return Err(format!("invalid output path: stat {}: no such file or directory", dir.display()));
        }
        match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err("cannot write to a directory".to_owned()),
            Ok(found) if found.file_type().is_block_device() => Err("cannot write to a device".to_owned()),
            Ok(found) if found.file_type().is_char_device() && path != Path::new("/dev/null") => {
                Err("cannot write to a device".to_owned())
            }
            _ => Ok(Self { path }),
        }
    }

    /// Writes all that comes.
    pub(crate) fn fill(&self, content: &mut dyn Read) -> Outcome {
        let told = |why: io::Error| format!("cannot write {}: {why}", self.path.display());
        if fs::metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            let mut pipe = OpenOptions::new().write(true).open(&self.path).map_err(told)?;
            io::copy(content, &mut pipe).map_err(told)?;
            return Ok(());
        }
        let target = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let (temporary, mut file) = create_beside(&target).map_err(told)?;
        let done = io::copy(content, &mut file).and_then(|_| fs::rename(&temporary, &target));
        if let Err(why) = done {
            // the first error is the one to tell
            let _ = fs::remove_file(&temporary);
            return Err(told(why).into());
        }
        Ok(())
    }
}

fn create_beside(target: &Path) -> io::Result<(PathBuf, File)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut number = std::process::id();
    loop {
        let path = target.with_file_name(format!(".tmp-{name}{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number = number.wrapping_add(1),
            Err(error) => return Err(error),
        }
    }
}
