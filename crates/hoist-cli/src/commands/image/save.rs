//! `save`: images as a tar archive that `load` reads.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal, Read, Write},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hoist_client::{Request, Response};

use super::{super::Command, platform_json};
use crate::{
    app::{App, Failure, Outcome},
    flags::{Flag, Parsed, text},
};

const FLAGS: &[Flag] = &[
    text('o', "output", "Write to a file in place of STDOUT"),
    text('\0', "platform", "Save only this platform's image (\"os[/arch[/variant]]\")"),
];

pub(crate) const COMMAND: Command =
    Command::action("save", "Save images to a tar archive", "[OPTIONS] IMAGE [IMAGE...]", (1, usize::MAX), run)
        .flags(&[FLAGS])
        .aliases(&["image save", "save"]);

fn run(app: &App, args: &Parsed) -> Outcome {
    let output = args.text("output");
    if output.is_empty() && io::stdout().is_terminal() {
        return Err("cowardly refusing to save to a terminal. Use the -o flag or redirect".into());
    }
    check_output(output).map_err(|why| Failure::from(format!("failed to save image: {why}")))?;
    let mut request = Request::get("/images/get");
    for name in &args.args {
        request = request.query("names", name);
    }
    if let Some(platform) = args.filled("platform") {
        request = request.query("platform", platform_json(platform)?);
    }
    let archive = app.client()?.call(request)?;
    if output.is_empty() { copy(archive, &mut io::stdout()) } else { Draft::new(Path::new(output))?.fill(archive) }
}

/// Refuses what cannot become a file before anything is asked of the engine.
fn check_output(output: &str) -> Result<(), String> {
    if output.is_empty() {
        return Ok(());
    }
    let directory = directory_of(Path::new(output));
    if !directory.is_dir() {
        return Err(format!("invalid output path: stat {}: no such file or directory", directory.display()));
    }
    match fs::metadata(output).map(|found| found.file_type()) {
        Ok(kind) if kind.is_dir() => Err("cannot write to a directory".to_owned()),
        Ok(kind) if kind.is_char_device() => Err("cannot write to a character device file".to_owned()),
        Ok(kind) if kind.is_block_device() => Err("cannot write to a block device file".to_owned()),
        _ => Ok(()),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn copy(mut archive: Response, out: &mut dyn Write) -> Outcome {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match archive.body.read(&mut buffer)? {
            0 => return Ok(out.flush()?),
            count => out.write_all(&buffer[..count])?,
        }
    }
}

/// A file that gets its name when it is whole; what was there before stays until then.
struct Draft<'a> {
    path: &'a Path,
    aside: PathBuf,
    file: File,
}

impl<'a> Draft<'a> {
    fn new(path: &'a Path) -> Outcome<Draft<'a>> {
        let name = path.file_name().ok_or("failed to save image: invalid output path")?;
        let aside = directory_of(path).join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside);
        let file = file.map_err(|why| format!("failed to save image: {}: {why}", aside.display()))?;
        Ok(Draft { path, aside, file })
    }

    fn fill(mut self, archive: Response) -> Outcome {
        let kept = copy(archive, &mut self.file).and_then(|()| Ok(fs::rename(&self.aside, self.path)?));
        if kept.is_err() {
            // best effort: what is wrong is told, and this is not the file that was asked for
            let _ = fs::remove_file(&self.aside);
        }
        kept
    }
}
