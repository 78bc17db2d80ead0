//! Byte ranges: `Content-Range` of chunks as the distribution-spec has it, `Range` of downloads as HTTP has it.

/// Where a chunk lies in its blob; both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRange {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl ChunkRange {
    /// `<first>-<last>` (distribution-spec "Pushing a blob in chunks"), also in HTTP's spelling `bytes <first>-<last>/<size>`,
    /// which some clients send.
    pub(crate) fn parse(text: &str) -> Option<ChunkRange> {
        let text = text.trim();
        let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let (range, _) = text.split_once('/').unwrap_or((text, ""));
        let (first, last) = range.split_once('-')?;
        let range = ChunkRange { first: number(first)?, last: number(last)? };
        (range.first <= range.last && range.last < u64::MAX).then_some(range)
    }

    /// Bytes in it.
    pub(crate) fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What of a file is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    /// So many bytes from an offset on, at least one.
    Part {
        offset: u64,
        length: u64,
    },
    /// Nothing of the range is there.
    Unsatisfiable,
}

/// Reads `Range` (RFC 9110 section 14.2). What is not understood, and more than one range, is for all of it.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(range) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else { return Wanted::All };
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::All };
    let part = match (first, last) {
        ("", suffix) => number(suffix).map(|length| (size.saturating_sub(length), size)),
        (first, "") => number(first).map(|first| (first, size)),
        (first, last) => number(first).zip(number(last)).map(|(first, last)| (first, last.saturating_add(1).min(size))),
    };
    match part {
        None => Wanted::All,
        // The last byte lies before the first: no range at all.
        Some((first, end)) if end < first && end < size => Wanted::All,
        Some((first, end)) if first < end => Wanted::Part { offset: first, length: end - first },
        Some(_) => Wanted::Unsatisfiable,
    }
}

/// Digits only: `parse` takes a sign too.
fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_range_is_two_numbers_in_order() {
        assert_eq!(ChunkRange::parse("0-9"), Some(ChunkRange { first: 0, last: 9 }));
        assert_eq!(ChunkRange::parse("bytes 5-5/100").map(ChunkRange::length), Some(1));
        for bad in ["", "-", "1", "9-0", "-1-5", "+1-5", "0-18446744073709551615", "0-99999999999999999999", "a-b"] {
            assert_eq!(ChunkRange::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ranges_of_downloads_follow_http() {
        let part = |offset, length| Wanted::Part { offset, length };
        for (header, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-5", part(2, 4)),
            ("bytes=5-", part(5, 5)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-30", part(0, 10)),
            ("bytes=8-1000", part(8, 2)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=10-20", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-2", Wanted::All),
            ("bytes=0-1,4-5", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("bytes=x-", Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Unsatisfiable);
    }
}
