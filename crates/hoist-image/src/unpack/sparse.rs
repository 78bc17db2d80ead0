//! Maps of sparse files in GNU tar's encodings: old GNU blocks, PAX 0.0, 0.1 and 1.0. Pure.

use std::io::{self, Read};

use super::header::{self, BLOCK};
use super::pax::decimal;
use super::stream::{invalid, truncated};

/// A file with more pieces than this is an attack, not a file.
const SEGMENTS_MAX: usize = 1 << 20;

/// One piece of data; between pieces are holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

pub(super) fn check_count(count: usize) -> io::Result<()> {
    if count > SEGMENTS_MAX { Err(invalid("sparse tar entry with too many pieces")) } else { Ok(()) }
}

/// Pieces in order, apart, inside the file, and together exactly the payload.
pub(super) fn check(segments: &[Segment], real_bytes: u64, payload_bytes: u64) -> io::Result<()> {
    let bad = || invalid("invalid sparse map in tar entry");
    let (mut end, mut total) = (0_u64, 0_u64);
    for segment in segments {
        if segment.offset < end {
            return Err(bad());
        }
        end = segment.offset.checked_add(segment.length).ok_or_else(bad)?;
        total = total.checked_add(segment.length).ok_or_else(bad)?;
    }
    if end > real_bytes || total != payload_bytes || i64::try_from(real_bytes).is_err() { Err(bad()) } else { Ok(()) }
}

/// Entries of 12-byte offset and 12-byte length, ended by an empty one.
pub(super) fn old_gnu(bytes: &[u8]) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        let part = |field| u64::try_from(header::number(field)?).map_err(|_| invalid("invalid sparse map"));
        segments.push(Segment { offset: part(&pair[..12])?, length: part(&pair[12..])? });
    }
    Ok(segments)
}

/// `offset,length,offset,length…`
pub(super) fn comma_map(value: &[u8]) -> io::Result<Vec<Segment>> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Vec<u64> = value.split(|&b| b == b',').map(decimal).collect::<io::Result<_>>()?;
    pairs(&numbers)
}

/// Version 1.0: newline-separated numbers at the head of the payload, padded to a block: count, then pairs.
pub(super) fn leading_map(payload: &mut dyn Read) -> io::Result<Vec<Segment>> {
    let mut numbers = Vec::new();
    let mut digits = Vec::new();
    let mut wanted = None;
    let mut block = [0; BLOCK];
    loop {
        payload.read_exact(&mut block).map_err(|_| truncated())?;
        for &byte in &block {
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err(invalid("invalid sparse map"));
                }
                continue;
            }
            let number = decimal(&digits)?;
            digits.clear();
            if wanted.is_none() {
                let count = usize::try_from(number).unwrap_or(usize::MAX);
                check_count(count)?;
                wanted = Some(count * 2);
            } else {
                numbers.push(number);
            }
            if wanted == Some(numbers.len()) {
                return pairs(&numbers);
            }
        }
    }
}

fn pairs(numbers: &[u64]) -> io::Result<Vec<Segment>> {
    check_count(numbers.len() / 2)?;
    if !numbers.len().is_multiple_of(2) {
        return Err(invalid("invalid sparse map"));
    }
    Ok(numbers.chunks_exact(2).map(|p| Segment { offset: p[0], length: p[1] }).collect())
}
