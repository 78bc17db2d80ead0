//! `--tail N`: where the last N entries of a log begin, across its rotated files.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::files::Files;

/// Where the last `count` entries begin: (index into `files`, byte offset). With `only` (a stream's name) entries of the
/// other stream do not count, so that `tail=1` of stdout shows a line even if stderr spoke last.
pub(super) fn start(files: &mut Files, count: usize, only: Option<&str>) -> io::Result<(usize, u64)> {
    match only {
        None => of_all(files, count),
        Some(stream) => of_stream(files, count, stream),
    }
}

/// Reads everything: which entries count is known only when they are seen.
fn of_stream(files: &mut Files, count: usize, stream: &str) -> io::Result<(usize, u64)> {
    // As the supervisor writes it; inside a logged line the quotes would be escaped.
    let wanted = format!("\"stream\":\"{stream}\"");
    let mut starts = VecDeque::new();
    let mut end = (0, 0);
    for index in 0..files.len() {
        let file = files.get(index)?;
        file.seek(SeekFrom::Start(0))?;
        let (mut input, mut offset, mut line) = (BufReader::with_capacity(64 * 1024, file), 0, Vec::new());
        loop {
            line.clear();
            let length = input.read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            if line.windows(wanted.len()).any(|part| part == wanted.as_bytes()) {
                starts.push_back((index, offset));
                if starts.len() > count {
                    starts.pop_front();
                }
            }
            offset += length as u64;
        }
        end = (index, offset);
    }
    Ok(starts.front().copied().unwrap_or(end))
}

/// From the end, block by block.
fn of_all(files: &mut Files, count: usize) -> io::Result<(usize, u64)> {
    const BLOCK_BYTES: u64 = 64 * 1024;
    let mut left = count;
    for index in (0..files.len()).rev() {
        let file = files.get(index)?;
        let length = file.metadata()?.len();
        if left == 0 {
            return Ok((index, length));
        }
        let mut end = length;
        let mut buffer = Vec::new();
        while end > 0 {
            let start = end.saturating_sub(BLOCK_BYTES);
            file.seek(SeekFrom::Start(start))?;
            buffer.clear();
            (&mut *file).take(end - start).read_to_end(&mut buffer)?;
            for (at, _) in buffer.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                let after = start + at as u64 + 1;
                // The newline that ends the file ends the last line; it begins none.
                if after == length {
                    continue;
                }
                left -= 1;
                if left == 0 {
                    return Ok((index, after));
                }
            }
            end = start;
        }
        if length > 0 {
            left -= 1;
            if left == 0 {
                return Ok((index, 0));
            }
        }
    }
    Ok((0, 0))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_tail_begins_at_the_right_line_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(dir.path().join("log.1"), "a\nb\n").unwrap();
        std::fs::write(&path, "c\nd\n").unwrap();
        let mut files = Files::of([dir.path().join("log.1"), path.clone()].map(|p| File::open(p).unwrap()));
        assert_eq!(of_all(&mut files, 1).unwrap(), (1, 2));
        assert_eq!(of_all(&mut files, 2).unwrap(), (1, 0));
        assert_eq!(of_all(&mut files, 3).unwrap(), (0, 2));
        assert_eq!(of_all(&mut files, 9).unwrap(), (0, 0));
        assert_eq!(of_all(&mut files, 0).unwrap(), (1, 4));
    }

    #[test]
    fn only_entries_of_the_wanted_stream_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let entry = |stream: &str| format!("{{\"log\":\"x\\n\",\"stream\":\"{stream}\",\"time\":\"\"}}\n");
        let (out, err) = (entry("stdout"), entry("stderr"));
        std::fs::write(&path, format!("{out}{out}{err}{err}")).unwrap();
        let mut files = Files::of([File::open(path).unwrap()]);
        assert_eq!(start(&mut files, 1, Some("stdout")).unwrap(), (0, out.len() as u64));
        assert_eq!(start(&mut files, 1, Some("stderr")).unwrap().1, (2 * out.len() + err.len()) as u64);
        assert_eq!(start(&mut files, 1, None).unwrap().1, (2 * out.len() + err.len()) as u64);
    }
}
